"""The file that keeps synchronous answers as they come."""

from pathlib import Path

from batch_pipeline.stages.answers import AnswersFile, write_results

OK = b'{"type":"succeeded","message":{"type":"message","content":[]}}'
BAD = b'{"type":"errored","error":{"type":"error","error":{"type":"api_error","message":""}}}'


def test_what_was_written_is_known_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "answers" / "chunk.jsonl"
    with AnswersFile(path) as answers:
        for n in range(4):
            answers.start(f"t-{n}")
        answers.add("t-0", OK)
        answers.add("t-1", BAD)
        answers.not_taken("t-2")
    with AnswersFile(path) as again:
        assert again.answered == {"t-0", "t-1"}
        assert again.results == {"succeeded": 1, "errored": 1}
        assert again.under_way == {"t-3"}


def test_nothing_waits_in_this_process(tmp_path: Path) -> None:
    path = tmp_path / "chunk.jsonl"
    with AnswersFile(path) as answers:
        answers.start("t-0")
        assert path.read_bytes() == b'{"started":"t-0"}\n'
        answers.add("t-0", OK)
        assert path.read_bytes().endswith(OK + b"}\n")


def test_half_a_line_that_a_crash_left_counts_as_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "chunk.jsonl"
    with AnswersFile(path) as answers:
        answers.start("t-0")
        answers.add("t-0", OK)
        answers.start("t-1")
    with path.open("ab") as file:
        file.write(b'{"custom_id":"t-1","result":{"type":"succ')
    with AnswersFile(path) as again:
        assert (again.answered, again.under_way) == ({"t-0"}, {"t-1"})
        again.add("t-1", BAD)
    assert path.read_bytes().count(b"\n") == 4
    assert b"succ{" not in path.read_bytes()


def test_the_results_alone_are_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "chunk.jsonl"
    with AnswersFile(path) as answers:
        answers.start("t-0")
        answers.add("t-0", OK)
        answers.start("t-1")
        answers.not_taken("t-1")
    assert write_results(path, tmp_path / "results")
    assert (tmp_path / "results").read_bytes() == b'{"custom_id":"t-0","result":' + OK + b"}\n"


def test_answers_that_are_not_there_are_none(tmp_path: Path) -> None:
    assert not write_results(tmp_path / "chunk.jsonl", tmp_path / "results")
