"""Answers carried over from the load that promoted them last, where nothing changed since."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.ledger import ChunkState, Ledger
from batch_pipeline.review.columns import DECISION, FIXED
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.stages.validate import validate_results
from batch_pipeline_tests.night import HAIKU, SONNET, Night, rows, simulator_for
from batch_pipeline_tests.review.desk import Desk
from batch_pipeline_tests.stages.watching import finals, rows_of, sendings

FIRST, SECOND, THIRD = "2026-11-18", "2026-11-19", "2026-11-20"
PROMOTED = "id, label, _tier, _model, _batch_id, _load"
# No model can answer this one, and a person does.
HARD = "r00005"
EVERY_NIGHT = [*rows(3), *rows(1, start=5)]
NEW_TEXT = rows(9)[8]["text"]


class Nights:
    """Loads of one workload, night after night, over the same rows unless others are given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(
        self, day: str, source: Sequence[Mapping[str, Any]] = EVERY_NIGHT, **changes: Any
    ) -> Night:
        options = {"golden": 0, "reuse": True, **changes}
        return Night.make(self.folder, day=day, source=source, **options)

    def promoted(
        self, day: str, source: Sequence[Mapping[str, Any]] = EVERY_NIGHT, **changes: Any
    ) -> Night:
        night = self.make(day, source, **changes)
        night.settle()
        night.publish()
        return night

    def begun(
        self, day: str, source: Sequence[Mapping[str, Any]] = EVERY_NIGHT, **changes: Any
    ) -> Night:
        night = self.make(day, source, **changes)
        night.submit()
        return night


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with a load that promoted three answers of a model and one of a person, and an API's address."""
    folder = tmp_path_factory.mktemp("reuse")
    faults = [{"contains": "number 5 of", "fault": "not_json"}]
    with (
        simulator_for(folder / "simulator", rows=faults) as simulator,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        patch.setenv("ANTHROPIC_API_KEY", "test-key")
        patch.setenv("BATCH_PIPELINE_STATE", str(folder / "state"))
        night = Nights(folder).promoted(FIRST, reuse=False)
        desk = Desk(night.context, folder / "review.csv")
        desk.decide(**{HARD: {DECISION: "fix", FIXED + "label": "bug"}})
        desk.take_in()
        night.publish()
        yield folder, simulator.base_url


@pytest.fixture
def nights(
    first_night: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Nights:
    """The nights that follow the first."""
    folder, address = first_night
    monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
    for part in ("state", "workloads"):
        shutil.copytree(folder / part, tmp_path / part)
    return Nights(tmp_path)


def promoted_rows(night: Night) -> dict[str, tuple[Any, ...]]:
    folder = night.context.folder(night.context.record())
    return {key: tuple(rest) for key, *rest in rows_of(folder.promoted, PROMOTED)}


def changed(key: str = "r00001") -> list[dict[str, str]]:
    """The rows of every night, one of them with another text."""
    return [{**row, "text": NEW_TEXT} if row["id"] == key else row for row in EVERY_NIGHT]


def sent(night: Night) -> set[str]:
    """The keys of the rows that were sent; the others were carried over."""
    return {key for key, each in sendings(night).items() if any(attempt > 0 for _, attempt in each)}


def carried(night: Night) -> int:
    """How many rows kept an earlier answer."""
    return sum(attempt == 0 for each in sendings(night).values() for _, attempt in each)


def test_an_unchanged_row_keeps_its_answer_and_where_that_came_from(nights: Nights) -> None:
    """A person's answer stays theirs."""
    before = promoted_rows(nights.make(FIRST))
    night = nights.promoted(SECOND)
    after = promoted_rows(night)
    assert {key: row[:-1] for key, row in after.items()} == {
        key: row[:-1] for key, row in before.items()
    }
    assert after[HARD][:3] == ("bug", None, "human")
    assert {row[-1] for row in after.values()} == {SECOND}
    assert [chunk.state for chunk in night.ledger.chunks(night.context.record())] == [
        ChunkState.REUSED
    ]


def test_only_a_row_whose_text_changed_is_sent(nights: Nights) -> None:
    night = nights.make(SECOND, changed())
    card = night.settle()
    assert sent(night) == {"r00001"}
    assert (card.requests, card.batches, card.reused, card.asked_once) == (1, 1, 3, 0)
    assert card.dispositions["validated"] == 4
    assert card.spend is not None
    assert set(card.spend.usd_by_tier) == {0}
    for name, expected in {
        "coverage": (4, 4),
        "validity": (1, 1),
        "validity_all_tiers": (1, 1),
        "escalation_rate": (0, 4),
        "errored_rate": (0, 1),
    }.items():
        rate = card.rates[name]
        assert (rate.numerator, rate.denominator) == expected, name
    assert {key: final.attempts for key, final in finals(night).items()} == {
        "r00000": 0,
        "r00001": 1,
        "r00002": 0,
        HARD: 0,
    }
    assert validate_results(night.context).rows == 1


def test_the_newest_load_that_promoted_a_key_decides(nights: Nights) -> None:
    """A text that went and came back was answered otherwise in between."""
    nights.promoted(SECOND, changed())
    night = nights.begun(THIRD)
    assert (carried(night), sent(night)) == (3, {"r00001"})


def test_a_load_that_lacked_the_key_decides_nothing(nights: Nights) -> None:
    nights.promoted(SECOND, EVERY_NIGHT[:1])
    assert carried(nights.begun(THIRD)) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": {"system": "Say it in one word.", "user": "{{ text }}"}},
        {"tiers": [{"model": HAIKU, "max_tokens": 65}, {"model": SONNET, "max_tokens": 128}]},
        {"reuse": False},
    ],
    ids=["another prompt", "another tier", "not asked for"],
)
def test_nothing_is_carried_over_where_the_declaration_changed(
    nights: Nights, changes: dict[str, Any]
) -> None:
    assert carried(nights.begun(SECOND, **changes)) == 0


def test_what_was_not_promoted_is_not_carried_over(nights: Nights) -> None:
    nights.make(SECOND, changed()).settle()
    night = nights.begun(THIRD, changed())
    assert sent(night) == {"r00001"}


def test_a_purged_load_and_what_is_older_are_not_relied_on(nights: Nights) -> None:
    purged = nights.promoted(SECOND)
    record = purged.context.record()
    root = purged.context.folder(record).root
    purged.ledger.update_load(record, purged_at=datetime.now(UTC))
    shutil.rmtree(str(root))
    assert carried(nights.begun(THIRD)) == 0


def test_a_load_that_is_sent_again_asks_again(nights: Nights) -> None:
    night = nights.make(FIRST)
    read_source(night.context, resend=True, requested_by="run 2")
    night.submit()
    assert carried(night) == 0


def test_a_load_from_before_prompts_were_kept_is_compared_by_its_source(nights: Nights) -> None:
    old = nights.make(FIRST)
    old.context.folder(old.context.record()).prompts.unlink()
    assert sent(nights.begun(SECOND, changed())) == {"r00001"}


def test_an_answer_that_fails_tonights_checks_is_asked_for_anew_at_the_first_tier(
    nights: Nights,
) -> None:
    (nights.folder / "workloads" / "questions" / "my_checks.py").write_text(
        "import pandera.pandas as pa\n"
        "check = pa.Check(lambda c: c != 'how_to', name='no_how_to')\n"
        "Frame = pa.DataFrameSchema({'label': pa.Column(str, check)})\n"
    )
    night = nights.make(SECOND, checks="my_checks:Frame")
    card = night.settle()
    assert sendings(night)["r00002"] == [(0, 1), (1, 1)]
    assert (card.reused, card.dispositions["human_review"]) == (3, 1)
    assert card.rates["escalation_rate"].denominator == 4


@pytest.mark.parametrize("boundary", ["before the record", "after the record"])
def test_a_crash_carries_each_answer_over_once(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, boundary: str
) -> None:
    night = nights.make(SECOND, changed())
    record = Ledger.record_intent

    def die(ledger: Ledger, chunk: Any) -> None:
        if boundary == "after the record":
            record(ledger, chunk)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Ledger, "record_intent", die)
        night.submit()
    card = night.settle()
    assert (card.requests, card.reused, card.dispositions["validated"]) == (1, 3, 4)
    night.publish()
    assert len(promoted_rows(night)) == 4


def test_golden_rows_are_asked_every_night(nights: Nights) -> None:
    night = nights.begun(SECOND, golden=2)
    assert carried(night) == 4
    assert len(sent(night)) == 2


def test_a_pilot_is_drawn_from_the_rows_that_are_asked(nights: Nights) -> None:
    card = nights.make(SECOND, changed(), pilot={"rows": 1}).settle()
    assert (card.requests, card.dispositions["validated"]) == (1, 4)


def test_a_night_on_which_nothing_changed_needs_no_pilot(nights: Nights) -> None:
    night = nights.make(SECOND, pilot={"rows": 1})
    read_source(night.context)
    assert send_pending(night.context, BatchesApi).pilot is None
    card = night.settle()
    assert (card.settled, card.requests, card.reused) == (True, 0, 4)


def test_a_load_that_keeps_all_its_answers_has_no_validity_to_be_held_for(nights: Nights) -> None:
    second = nights.promoted(SECOND, gates={"min_validity": 0.95})
    assert sent(second) == set()
    assert set(promoted_rows(second)) == {row["id"] for row in EVERY_NIGHT}


def test_a_load_that_is_sent_again_is_asked_anew(nights: Nights) -> None:
    second = nights.promoted(SECOND)
    assert sent(second) == set()
    read_source(second.context, resend=True, requested_by="kim")
    send_pending(second.context, BatchesApi)
    assert sent(second) == {row["id"] for row in EVERY_NIGHT}


def test_where_the_key_was_another_column_nothing_is_carried_over(nights: Nights) -> None:
    night = nights.make(SECOND, [{**row, "ref": row["id"]} for row in EVERY_NIGHT])
    spec = night.context.workload.spec
    source = spec.source.model_copy(update={"key": "ref"})
    renamed = replace(night.context.workload, spec=spec.model_copy(update={"source": source}))
    night = Night(replace(night.context, workload=renamed))
    night.submit()
    assert carried(night) == 0
