"""A declaration with the files it names: what can be found wrong before the source is read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload
from batch_pipeline_tests.night import HAIKU, SONNET, declaration


def built(folder: Path = Path("/somewhere"), **changes: Any) -> Workload:
    return Workload.build(WorkloadSpec.model_validate(declaration(**changes)), folder)


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        built(**changes)
    return str(refused.value)


def day(offset: int) -> str:
    return (datetime.now(UTC).date() + timedelta(days=offset)).isoformat()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": {"user": "missing.md"}}, "prompt.user names missing.md"),
        ({"output": {"label": {"type": "object"}}}, "output.label.type: object is not supported"),
        ({"tiers": [{"model": "gpt-4", "max_tokens": 9}]}, "Model gpt-4 has no price; use one of"),
        ({"tiers": [{"model": "gpt-4", "max_tokens": 9}]}, "BATCH_PIPELINE_PRICES names"),
        ({"tiers": [{"model": HAIKU, "max_tokens": 64_001}]}, "tiers[0].max_tokens is 64,001, but"),
    ],
)
def test_what_is_wrong_is_said_with_the_workload_and_its_folder(
    changes: dict[str, Any], said: str
) -> None:
    sentence = refusal(**changes)
    assert sentence.startswith("Workload questions in /somewhere: ")
    assert said in sentence


def test_a_model_may_be_named_with_its_date() -> None:
    assert built(tiers=[{"model": f"{HAIKU}-20251001", "max_tokens": 64}]).name == "questions"


@pytest.mark.parametrize("load", ["2026-11-5", "20261105", "yesterday", "", "2026-02-30"])
def test_a_day_is_written_in_one_way(load: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a date; write it as YYYY-MM-DD"):
        built().check_load(load)


def test_a_load_is_of_a_day_from_the_first_to_today() -> None:
    workload = built(partitions={"start": day(-10)})
    for offset in (-10, -1, 0):
        workload.check_load(day(offset))
    for offset in (-11, 2):
        with pytest.raises(ConfigurationError, match=rf"outside questions's days, {day(-10)} to"):
            workload.check_load(day(offset))


def test_days_begin_in_the_workloads_time_zone() -> None:
    east, west = (
        built(partitions={"timezone": zone}).last_complete_day()
        for zone in ("Pacific/Kiritimati", "Pacific/Niue")
    )
    # Twenty-five hours apart, so never the same day.
    assert west < east


def test_the_partition_is_filled_in_wherever_it_stands() -> None:
    assert built().at_partition("{{partition}}/{{ partition }}.csv", "2026-11-20") == (
        "2026-11-20/2026-11-20.csv"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": {"user": "{{ text }}?"}},
        {"prompt": {"system": "Be brief.", "user": "{{ text }}"}},
        {"output": {"label": {"type": "string"}}},
        {"tiers": [{"model": HAIKU, "max_tokens": 64}]},
        {"tiers": [{"model": HAIKU, "max_tokens": 65}, {"model": SONNET, "max_tokens": 128}]},
    ],
)
def test_the_fingerprint_changes_with_whatever_decides_an_answer(changes: dict[str, Any]) -> None:
    assert built(**changes).fingerprint() != built().fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "Sorts questions."},
        {"schedule": "0 2 * * *"},
        {"gates": {"max_cost_usd": 5}},
        {"source": {"path": "other.csv", "key": "id"}},
    ],
)
def test_the_fingerprint_stays_when_no_answer_can_change(changes: dict[str, Any]) -> None:
    assert built(**changes).fingerprint() == built().fingerprint()
