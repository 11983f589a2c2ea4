"""Synchronous answers in an object store: each is safe when it is given, and what was under way is known after a loss."""

import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.rows import ObjectPath, Place
from batch_pipeline.rows.object_store import ObjectStore
from batch_pipeline.stages.answer_objects import AnswerObjects
from batch_pipeline.stages.answers import (
    Answers,
    AnswersFile,
    open_answers,
    remove_answers,
    write_results,
)
from batch_pipeline_tests.store_proxy import StoreProxy

OK = b'{"type":"succeeded","message":{}}'
BAD = b'{"type":"errored","error":{}}'


def in_memory(folder: Path) -> ObjectPath:
    url = f"memory://{uuid.uuid4().hex}"
    return ObjectPath(url, ObjectStore(url, folder, 1.0)) / "answers" / "chunk.jsonl"


def results(place: Place, to: Path) -> list[bytes]:
    """The lines that are read back; none where there is nothing to read."""
    return sorted(to.read_bytes().splitlines()) if write_results(place, to) else []


def seen(answers: Answers) -> tuple[set[str], set[str], dict[str, int]]:
    return answers.answered, answers.under_way, dict(answers.results)


ACTS = st.lists(
    st.tuples(st.sampled_from(["start", "add", "fail", "not_taken", "all"]), st.integers(0, 4)),
    max_size=12,
)


@given(acts=ACTS)
@settings(max_examples=40, deadline=None)
def test_they_tell_what_a_file_tells_however_often_they_are_opened(
    acts: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("answers")
    file, objects = folder / "chunk.jsonl", in_memory(folder)
    for act, n in acts:
        with open_answers(file) as one, open_answers(objects) as other:
            assert seen(one) == seen(other)
            custom_id = f"token-{n}"
            # As the lane does: nothing that is answered is started, and nothing is answered unasked.
            if act == "start" and custom_id not in one.answered | one.under_way:
                assert one.start(custom_id)
                assert other.start(custom_id)
            elif act in ("add", "fail") and custom_id in one.under_way:
                for each in (one, other):
                    each.add(custom_id, OK if act == "add" else BAD)
            elif act == "not_taken" and custom_id in one.under_way:
                one.not_taken(custom_id)
                other.not_taken(custom_id)
            elif act == "all":
                left = sorted({"token-7", "token-8", *one.under_way} - one.answered)
                one.add_all(left, BAD)
                other.add_all(left, BAD)
            assert seen(one) == seen(other)
    assert results(file, folder / "results") == results(objects, folder / "results")


def test_what_is_removed_is_gone(tmp_path: Path) -> None:
    place = in_memory(tmp_path)
    with open_answers(place) as answers:
        answers.start("token-1")
        answers.add("token-1", OK)
    remove_answers(place)
    remove_answers(place)
    assert not place.exists()
    assert not write_results(place, tmp_path / "results")


def test_a_folder_keeps_them_in_a_file(tmp_path: Path) -> None:
    with open_answers(tmp_path / "chunk.jsonl") as answers:
        assert isinstance(answers, AnswersFile)


def test_nothing_is_started_after_the_end(tmp_path: Path) -> None:
    with open_answers(in_memory(tmp_path)) as answers:
        answers.start("token-1")
        answers.start_no_more()
        assert not answers.start("token-2")
        assert answers.under_way == {"token-1"}


def test_a_request_that_could_not_be_noted_is_not_sent(root: ObjectPath, proxy: StoreProxy) -> None:
    answers = AnswerObjects(root / "answers" / "chunk.jsonl")
    proxy.refusal = lambda asked: (403, "AccessDenied") if asked.what == "PUT" else None
    with pytest.raises(ConfigurationError):
        answers.start("token-1")
    assert answers.under_way == set()


def test_many_threads_put_theirs_at_once(root: ObjectPath, tmp_path: Path) -> None:
    place = root / "answers" / "chunk.jsonl"
    answers = AnswerObjects(place)

    def work(start: int) -> None:
        for n in range(start, start + 5):
            answers.start(f"token-{n}")
            answers.add(f"token-{n}", OK)

    threads = [threading.Thread(target=work, args=(5 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = AnswerObjects(place)
    assert seen(again) == seen(answers)
    assert again.results == {"succeeded": 20}
    assert write_results(place, tmp_path / "results")
    assert len((tmp_path / "results").read_bytes().splitlines()) == 20
