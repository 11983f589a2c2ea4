"""What can befall a single request, scripted or drawn."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import anthropic
import pytest

from batch_pipeline.simulator import Simulator

from .asking import (
    account,
    answer,
    answer_text,
    client_of,
    lines,
    one_result,
    params,
    requests,
    results,
    send,
)
from .conftest import Simulate


def _hit(simulate: Simulate, fault: str) -> Simulator:
    return simulate(rows=[{"fault": fault}])


@pytest.mark.parametrize(
    ("fault", "error_type"),
    [
        ("server_error", "api_error"),
        ("overloaded", "overloaded_error"),
        ("rate_limit", "rate_limit_error"),
        ("invalid_request", "invalid_request_error"),
    ],
)
def test_errors_of_the_service(simulate: Simulate, fault: str, error_type: str) -> None:
    simulator = _hit(simulate, fault)
    result = one_result(client_of(simulator))
    assert result.type == "errored"
    assert result.error.error.type == error_type
    assert account(simulator)["requests"]["billed"] == 0


@pytest.mark.parametrize("fault", ["expired", "canceled"])
def test_a_request_may_expire_or_be_canceled_alone(simulate: Simulate, fault: str) -> None:
    simulator = simulate(rows=[{"contains": "this", "fault": fault}])
    batch = send(client_of(simulator), requests("this one", "another"))
    counts = batch.request_counts.to_dict()
    assert (counts[fault], counts["succeeded"]) == (1, 1)


def test_a_refusal_without_output_is_not_billed(simulate: Simulate) -> None:
    simulator = _hit(simulate, "refusal")
    message = one_result(client_of(simulator)).message
    assert (message.stop_reason, message.content) == ("refusal", [])
    assert message.stop_details.type == "refusal"
    assert message.usage.input_tokens > 0
    assert (
        account(simulator)["requests"] | {"succeeded": 1, "billed": 0}
        == account(simulator)["requests"]
    )


def test_a_refusal_after_some_output_is_billed(simulate: Simulate) -> None:
    simulator = _hit(simulate, "refusal_midway")
    message = one_result(client_of(simulator)).message
    assert message.stop_reason == "refusal"
    assert message.content[0].text
    assert account(simulator)["requests"]["billed"] == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("truncated", "max_tokens"),
        ("context_exceeded", "model_context_window_exceeded"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_an_answer_that_stops_early_is_cut_json(
    simulate: Simulate, fault: str, reason: str
) -> None:
    simulator = _hit(simulate, fault)
    result = one_result(client_of(simulator))
    assert result.message.stop_reason == reason
    with pytest.raises(json.JSONDecodeError):
        answer(result)
    assert account(simulator)["requests"]["billed"] == 1


def test_a_truncated_answer_has_used_max_tokens(simulate: Simulate) -> None:
    assert one_result(client_of(_hit(simulate, "truncated"))).message.usage.output_tokens == 200


def test_not_json(simulate: Simulate) -> None:
    with pytest.raises(json.JSONDecodeError):
        answer(one_result(client_of(_hit(simulate, "not_json"))))


def test_wrong_type(simulate: Simulate) -> None:
    found = answer(one_result(client_of(_hit(simulate, "wrong_type"))))
    assert not (isinstance(found["label"], str) and isinstance(found["score"], int))


def test_unknown_label(simulate: Simulate) -> None:
    found = answer(one_result(client_of(_hit(simulate, "unknown_label"))))
    assert found["label"] not in {"red", "green", "blue"}


def test_out_of_range(simulate: Simulate) -> None:
    found = answer(one_result(client_of(_hit(simulate, "out_of_range"))))
    assert found["score"] < -1_000_000


def test_missing_field(simulate: Simulate) -> None:
    assert len(answer(one_result(client_of(_hit(simulate, "missing_field"))))) == 1


def test_extra_field(simulate: Simulate) -> None:
    assert set(answer(one_result(client_of(_hit(simulate, "extra_field"))))) > {"label", "score"}


def test_enum_case_is_right_but_for_its_capitals(simulate: Simulate) -> None:
    assert answer(one_result(client_of(_hit(simulate, "enum_case"))))["label"] in {
        "RED",
        "GREEN",
        "BLUE",
    }


def test_broken_is_one_of_the_broken_ones(simulate: Simulate) -> None:
    client = client_of(_hit(simulate, "broken"))
    found = results(client, requests(*(f"row {i}" for i in range(60))))
    seen: Counter[str] = Counter()
    for result in found.values():
        text = answer_text(result)
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            seen["not_json"] += 1
            continue
        valid = (
            set(value) == {"label", "score"}
            and value["label"] in ("red", "green", "blue")
            and isinstance(value["score"], int)
            and abs(value["score"]) < 1_000
        )
        seen["valid" if valid else "other"] += 1
    assert seen["valid"] == 0
    assert seen["not_json"] > 0
    assert seen["other"] > seen["not_json"]


def test_a_fault_without_room_in_the_schema_becomes_not_json(simulate: Simulate) -> None:
    schema = {
        "type": "object",
        "properties": {"s": {"type": "string"}},
        "required": ["s"],
        "additionalProperties": False,
    }
    config = {"format": {"type": "json_schema", "schema": schema}}
    client = client_of(_hit(simulate, "unknown_label"))
    with pytest.raises(json.JSONDecodeError):
        answer(one_result(client, output_config=config))


def _faulty_file(simulate: Simulate, fault: str) -> tuple[Any, list[str], Any]:
    simulator = simulate(rows=[{"contains": "this", "fault": fault}])
    batch = send(client_of(simulator), requests("this one", "another"))
    return batch, lines(simulator, batch.id), account(simulator)


def test_an_absent_line_is_counted_and_missing(simulate: Simulate) -> None:
    batch, found, bill = _faulty_file(simulate, "absent")
    assert batch.request_counts.succeeded == 2
    assert [json.loads(line)["custom_id"] for line in found] == ["r1"]
    assert bill["requests"]["billed"] == 1


def test_a_duplicate_line_comes_twice_and_is_billed_once(simulate: Simulate) -> None:
    batch, found, bill = _faulty_file(simulate, "duplicate")
    assert batch.request_counts.succeeded == 2
    assert sorted(json.loads(line)["custom_id"] for line in found) == ["r0", "r0", "r1"]
    assert bill["requests"]["billed"] == 2


def test_an_unparseable_line_is_half_a_line(simulate: Simulate) -> None:
    batch, found, _ = _faulty_file(simulate, "unparseable")
    assert batch.request_counts.succeeded == 2
    assert len(found) == 2
    broken = [line for line in found if not line.endswith("}}}")]
    assert len(broken) == 1
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken[0])


def test_a_foreign_line_has_an_id_that_nobody_sent(simulate: Simulate) -> None:
    batch, found, _ = _faulty_file(simulate, "foreign")
    assert batch.request_counts.succeeded == 2
    assert len({json.loads(line)["custom_id"] for line in found} - {"r0", "r1"}) == 1


def test_a_rule_may_name_a_model(simulate: Simulate) -> None:
    client = client_of(simulate(rows=[{"model": "claude-sonnet-4-6", "fault": "server_error"}]))
    assert one_result(client).type == "succeeded"
    assert one_result(client, model="claude-sonnet-4-6").type == "errored"


def test_a_rule_fires_so_many_times_over_all_batches(simulate: Simulate) -> None:
    client = client_of(simulate(rows=[{"contains": "x", "times": 2, "fault": "server_error"}]))
    types = [one_result(client, text).type for text in ("x", "y", "x", "x")]
    assert types == ["errored", "succeeded", "errored", "succeeded"]


def test_a_rule_fires_for_every_nth_request(simulate: Simulate) -> None:
    client = client_of(simulate(rows=[{"every": 10, "fault": "expired"}]))
    found = results(client, requests(*(f"row {i}" for i in range(30))))
    assert {k for k, r in found.items() if r.type == "expired"} == {"r9", "r19", "r29"}


def test_the_first_rule_that_fires_decides(simulate: Simulate) -> None:
    rules = [
        {"contains": "x", "times": 1, "fault": "expired"},
        {"contains": "x", "fault": "canceled"},
    ]
    client = client_of(simulate(rows=rules))
    assert [one_result(client, "x").type for _ in range(2)] == ["expired", "canceled"]


def test_a_refused_batch_uses_up_no_rule(simulate: Simulate) -> None:
    client = client_of(simulate(rows=[{"times": 1, "fault": "expired"}]))
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.create(requests=requests("a") * 2)  # type: ignore[arg-type]
    assert one_result(client).type == "expired"


def test_the_answer_key_scripts_faults_of_rows(simulate: Simulate, tmp_path: Path) -> None:
    key = tmp_path / "key.csv"
    key.write_text(
        "text,label,fault,fault_model\n"
        "a,red,server_error,\n"
        "b,red,server_error,claude-sonnet-4-6\n"
        "c,red,,\n"
    )
    client = client_of(simulate(answers={"file": key}))

    def types(model: str) -> list[str]:
        found = results(client, requests("a", "b", "c", model=model))
        return [found[f"r{i}"].type for i in range(3)]

    assert types("claude-haiku-4-5") == ["errored", "succeeded", "succeeded"]
    assert types("claude-sonnet-4-6") == ["errored", "errored", "succeeded"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("server_error", anthropic.InternalServerError),
        ("overloaded", anthropic.OverloadedError),
        ("rate_limit", anthropic.RateLimitError),
        ("invalid_request", anthropic.BadRequestError),
    ],
)
def test_a_single_message_fails_with_the_status(
    simulate: Simulate, fault: str, error: type[Exception]
) -> None:
    client = client_of(_hit(simulate, fault))
    with pytest.raises(error):
        client.messages.create(**params())


@pytest.mark.parametrize("fault", ["expired", "canceled", "absent", "duplicate", "foreign"])
def test_a_single_message_knows_no_faults_of_batches(simulate: Simulate, fault: str) -> None:
    message = client_of(_hit(simulate, fault)).messages.create(**params())
    assert message.stop_reason == "end_turn"


# Draws


def _types(found: dict[str, Any]) -> dict[str, str]:
    return {k: r.type for k, r in found.items()}


ROWS = [f"row {i}" for i in range(400)]
RATES = {"claude-haiku-4-5": {"wrong": 0.2, "server_error": 0.1}}


def test_rates_are_about_what_was_asked_for(simulate: Simulate) -> None:
    client = client_of(simulate(seed=1, models=RATES))
    errored = Counter(_types(results(client, requests(*ROWS))).values())["errored"]
    assert 20 <= errored <= 60


def test_a_star_stands_for_the_models_not_named(simulate: Simulate) -> None:
    models = {"claude-haiku-4-5": {}, "*": {"server_error": 1}}
    client = client_of(simulate(models=models))
    assert one_result(client).type == "succeeded"
    assert one_result(client, model="claude-sonnet-4-6").type == "errored"


def test_a_name_and_its_dated_model_share_rates(simulate: Simulate) -> None:
    client = client_of(simulate(models={"claude-haiku-4-5-20251001": {"server_error": 1}}))
    assert one_result(client).type == "errored"


def test_the_same_seed_gives_the_same_results_whatever_the_ids(simulate: Simulate) -> None:
    def run(seed: int, prefix: str) -> list[tuple[str, str]]:
        client = client_of(simulate(seed=seed, models=RATES))
        asked = [
            {"custom_id": f"{prefix}{i}", "params": params(text)} for i, text in enumerate(ROWS)
        ]
        found = results(client, asked)
        return [
            (r.type, answer_text(r) if r.type == "succeeded" else "")
            for r in (found[f"{prefix}{i}"] for i in range(len(ROWS)))
        ]

    assert run(7, "a") == run(7, "b")
    assert run(7, "a") != run(8, "a")


def test_the_same_seed_gives_the_same_order(simulate: Simulate) -> None:
    def order(seed: int) -> list[str]:
        simulator = simulate(seed=seed)
        batch = send(client_of(simulator), requests(*ROWS[:50]))
        return [json.loads(line)["custom_id"] for line in lines(simulator, batch.id)]

    assert order(7) == order(7)
    assert order(7) != order(8)


def test_a_row_sent_again_draws_again(simulate: Simulate) -> None:
    client = client_of(simulate(seed=1, models=RATES))
    asked = requests(*ROWS)
    assert _types(results(client, asked)) != _types(results(client, asked))


def test_without_redraw_a_model_answers_a_text_always_the_same_way(simulate: Simulate) -> None:
    client = client_of(simulate(seed=1, redraw=0, models={"*": {"wrong": 0.3}}))
    asked = requests(*ROWS)

    def texts() -> dict[str, str]:
        return {k: answer_text(r) for k, r in results(client, asked).items()}

    assert texts() == texts()


def test_difficulty_scales_the_models_errors(simulate: Simulate, tmp_path: Path) -> None:
    key = tmp_path / "key.csv"
    rows = [f"row {i},red,{i % 2}" for i in range(400)]
    key.write_text("text,label,difficulty\n" + "\n".join(rows) + "\n")
    client = client_of(simulate(answers={"file": key}, models={"*": {"wrong": 0.25}}))
    found = results(client, requests(*ROWS))
    wrong = [i for i in range(400) if answer(found[f"r{i}"])["label"] != "red"]
    assert all(i % 2 for i in wrong)
    assert 70 <= len(wrong) <= 130
