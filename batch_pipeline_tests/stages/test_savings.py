"""What loads cost and saved, against the API's raw results and the simulator's own account."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from batch_pipeline.report.facts import gather
from batch_pipeline.report.page import page_html
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.cache_pays import cache_pays
from batch_pipeline.stages.cost_history import costs_explained, savings_by_load
from batch_pipeline.stages.kept_scorecards import keep_scorecard, kept_scorecard
from batch_pipeline.stages.noticed import noticed
from batch_pipeline.stages.purge import Purge
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.warehouse import warehouse
from batch_pipeline_tests.night import HAIKU, OPUS, SONNET, Night, account_of, rows
from batch_pipeline_tests.stages.stormy import LONG_SYSTEM, Published
from batch_pipeline_tests.stages.watching import finals, results, rows_of

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

# USD per million tokens at full price: input, output, 1-hour writes, reads.
FULL = {HAIKU: (1, 5, 2, "0.1"), SONNET: (3, 15, 6, "0.3"), OPUS: (5, 25, 10, "0.5")}


def cost(model: str, usage: dict[str, Any]) -> dict[str, Decimal]:
    """What one answer cost: by its own usage, from the price page."""
    plain, answer, write, read = (Decimal(rate) / 1_000_000 for rate in FULL[model])
    assert usage["cache_creation"]["ephemeral_5m_input_tokens"] == 0
    written, found = usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]
    output = usage["output_tokens"] * answer
    cached = usage["input_tokens"] * plain + written * write + found * read
    uncached = (usage["input_tokens"] + written + found) * plain
    return {
        "synchronous": uncached + output,
        "spent": (cached + output) / 2,
        "batching": (cached + output) / 2,
        "caching": uncached - cached,
    }


def recount(night: Night) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """Amounts, and the spend by part and by `on <disposition>`: from the raw results, in plain Python."""
    amounts: dict[str, Decimal] = defaultdict(Decimal)
    spent: dict[str, Decimal] = defaultdict(Decimal)
    record = night.context.record()
    folder = night.context.folder(record)
    golden = {row for (row,) in rows_of(folder.source, "_row", "_golden")}
    keys = dict(rows_of(folder.source, "_row, _key"))
    ends = finals(night)
    for chunk in night.ledger.chunks(record):
        sent = {
            row: (tier, attempt)
            for row, tier, attempt in rows_of(folder.sent(chunk.chunk_id), "row, tier, attempt")
        }
        for row, result in results(folder, chunk).items():
            message = result.get("message")
            if message is None or (message["stop_reason"] == "refusal" and not message["content"]):
                continue
            each = cost(chunk.model, message["usage"])
            for name, amount in each.items():
                amounts[name] += amount
            tier, attempt = sent[row]
            if row in golden:
                spent["golden"] += each["spent"]
                continue
            part = "retries" if attempt > 1 else "escalations" if tier else "first_answers"
            spent[part] += each["spent"]
            spent[f"on {ends[keys[row]].disposition}"] += each["spent"]
    return amounts, spent


def test_spent_is_what_was_billed_and_the_sum_holds(published: Published) -> None:
    savings = published.card.savings
    assert savings is not None
    billed = sum(
        cost(
            model,
            {
                "input_tokens": tokens["input"],
                "output_tokens": tokens["output"],
                "cache_creation_input_tokens": tokens["cache_write_1h"],
                "cache_read_input_tokens": tokens["cache_read"],
                "cache_creation": {"ephemeral_5m_input_tokens": tokens["cache_write_5m"]},
            },
        )["spent"]
        for model, tokens in account_of(published.simulator)["tokens"].items()
    )

    assert savings.spent_usd == billed
    assert float(savings.spent_usd) == pytest.approx(published.card.cost_usd, abs=1e-15)
    assert savings.synchronous_usd == (
        savings.spent_usd + savings.saved_batch_usd + savings.saved_cache_usd
    )


def test_every_amount_and_every_part_are_those_of_the_raw_results(published: Published) -> None:
    savings = published.card.savings
    assert savings is not None
    amounts, spent = recount(published.night)

    assert savings.synchronous_usd == amounts["synchronous"]
    assert savings.saved_batch_usd == amounts["batching"]
    assert savings.saved_cache_usd == amounts["caching"]
    assert {part: usd for part, usd in savings.parts.items() if usd} == {
        part: spent[part] for part in ("golden", "first_answers", "retries", "escalations")
    }
    assert savings.on("human_review") == spent["on human_review"] > 0
    assert savings.on("quarantined") == spent["on quarantined"]
    assert sum(savings.parts.values()) == savings.spent_usd


def test_the_warehouse_and_the_copies_hold_the_same(published: Published) -> None:
    night, savings = published.night, published.card.savings
    assert savings is not None
    state, name = night.context.settings.state, night.context.workload.name
    columns = (
        "synchronous_usd, saved_batch_usd, saved_cache_usd, spent_usd, golden_usd, first_answers_usd, "
        "retries_usd, escalations_usd, quarantined_usd, human_review_usd, asked_once_usd"
    )
    with warehouse(state) as connection:
        (by_load,) = connection.execute(f"SELECT {columns} FROM metrics.savings").fetchall()
        (by_month,) = connection.execute(
            f"SELECT month, loads, {columns} FROM metrics.savings_by_month"
        ).fetchall()
        ((each, good),) = connection.execute(
            "SELECT cost_per_good_row_usd, good_rows FROM metrics.savings"
        ).fetchall()

    parts = savings.parts
    assert by_load == (
        savings.synchronous_usd,
        savings.saved_batch_usd,
        savings.saved_cache_usd,
        savings.spent_usd,
        *(parts[name] for name in ("golden", "first_answers", "retries", "escalations")),
        savings.on("quarantined"),
        savings.on("human_review"),
        0,
    )
    assert by_month == ("2026-11", 1, *by_load)
    assert (each, good) == (
        published.card.cost_per_good_row_usd,
        published.card.dispositions["validated"],
    )
    assert savings_by_load(state, name)[night.context.load].lines == savings.lines


def test_a_kept_scorecard_keeps_them_and_an_older_one_opens_without(published: Published) -> None:
    night = published.night
    state, record = night.context.settings.state, night.context.record()
    assert kept_scorecard(state, record).savings == published.card.savings

    kept = state / "scorecards" / record.workload / record.load / "g1.json"
    old = orjson.loads(kept.read_bytes())
    del old["savings"]
    kept.write_bytes(orjson.dumps(old))
    assert kept_scorecard(state, record).savings is None
    keep_scorecard(state, record, published.card)


def test_caching_pays_and_says_how_much(published: Published) -> None:
    found = cache_pays(published.night.context)

    assert found.unusual is False
    assert found.sentence.startswith("Caching saved $0.")
    assert "53% is break-even" in found.sentence


def test_json_gives_plain_numbers_that_add_up(published: Published) -> None:
    said = published.card.to_json()["savings"]

    assert said["synchronous_usd"] == pytest.approx(
        said["spent_usd"] + said["saved_batch_usd"] + said["saved_cache_usd"]
    )
    assert sum(said["parts_per_good_row_usd"].values()) == pytest.approx(
        published.card.cost_per_good_row_usd
    )
    orjson.dumps(said)


def test_the_page_shows_what_it_would_have_cost(published: Published) -> None:
    html = page_html(gather(published.night.context, published.card))

    for words in ("What it cost", "One by one, without a cache", "Saved by batching", "Retries"):
        assert words in html
    assert "November 2026 up to this load: 1 load, $" in html


def of_one_night(make: MakeNight, day: str, **changes: Any) -> Night:
    made = make(day=day, golden=0, **{"count": 4, **changes})
    made.settle()
    made.publish()
    return made


def test_a_price_that_doubles_is_named(
    simulate: Simulate, night: MakeNight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    for day in ("2026-11-16", "2026-11-17"):
        of_one_night(night, day)
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        f'models: {{{HAIKU}: {{prices: [{{effective_from: 2026-01-01, rates: {{input: "2", output: "10"}}}}]}}}}'
    )
    monkeypatch.setenv("BATCH_PIPELINE_PRICES", str(prices))
    n = of_one_night(night, "2026-11-18")

    explained = costs_explained(n.context.settings.state, "questions", "2026-11-18")
    assert explained is not None
    assert explained.sentence.endswith(": price +100%.")
    assert ", 100% more than the median of the last 2 nights ($" in explained.sentence
    assert costs_explained(n.context.settings.state, "questions", "2026-11-16") is None
    assert explained.sentence in page_html(gather(n.context, measure_load(n.context)))
    assert noticed(n.context.settings.state, n.context.workload.spec, "2026-11-18")


def test_a_purged_sending_is_still_a_part_of_what_the_load_cost(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate()
    n = of_one_night(night, "2026-11-16")
    before = measure_load(n.context).savings
    purge = Purge(n.context.settings.state, n.ledger, datetime.now(UTC), lambda _: None)
    assert len(list(purge.run())) == 1
    assert measure_load(n.context).savings == before
    assert cache_pays(n.context).unusual is False

    read_source(n.context, resend=True, requested_by="run 2")
    card = n.settle()
    assert card.savings is not None
    assert before is not None
    assert card.savings.parts["resent"] == before.spent_usd > 0
    assert card.savings.parts["first_answers"] == before.spent_usd
    assert card.savings.saved_batch_usd == 2 * before.saved_batch_usd
    assert float(card.savings.spent_usd) == pytest.approx(card.cost_usd)
    assert len(account_of(simulator)["batches"]) == 2


def test_a_cache_that_is_never_found_is_told_with_what_to_do(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(cache_hit_rate=0.0)
    prompt = {"system": LONG_SYSTEM, "user": "{{ text }}", "cache": "5m"}
    found = cache_pays(of_one_night(night, "2026-11-16", prompt=prompt).context)

    assert found.unusual is True
    assert found.sentence.startswith("Caching lost $0.")
    assert (
        "0% of the cached prefix was read rather than written, 22% is break-even" in found.sentence
    )
    assert "Set prompt.cache: 1h" in found.sentence


def test_a_prefix_below_the_minimum_is_told(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    prompt = {"system": "Say what it is about.", "user": "{{ text }}", "cache": "1h"}
    found = cache_pays(of_one_night(night, "2026-11-16", prompt=prompt).context)

    assert found.unusual is True
    assert found.sentence.startswith(
        "No cache activity at all at tier 0, though caching was asked for: "
    )
    assert "minimum of" in found.sentence
    assert HAIKU in found.sentence


def test_rows_that_were_asked_once_are_estimated_beside_the_sum(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    same = [{**row, "text": "question number 1 of the night"} for row in rows(6)]
    card = measure_load(of_one_night(night, "2026-11-16", source=same).context)

    assert card.savings is not None
    assert card.savings.asked_once_rows == 5
    assert card.savings.asked_once_usd == 5 * card.savings.spent_usd
    assert card.requests == 1


def test_answers_that_were_carried_over_are_estimated_though_nothing_was_spent(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    of_one_night(night, "2026-11-16", reuse=True)
    n = of_one_night(night, "2026-11-17", reuse=True)
    card = measure_load(n.context)

    assert card.savings is not None
    assert card.savings.asked_once_rows == 4
    assert card.savings.spent_usd == card.requests == 0
    assert card.savings.asked_once_usd > 0
    assert "4 rows were not asked" in page_html(gather(n.context, card))
    assert cache_pays(n.context).unusual is None


def test_the_synchronous_lane_saves_nothing_by_batching(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    savings = measure_load(of_one_night(night, "2026-11-16", lane="sync").context).savings

    assert savings is not None
    assert savings.saved_batch_usd == 0
    assert savings.spent_usd == savings.synchronous_usd > 0
    assert {line.lane for line in savings.lines} == {"sync"}
