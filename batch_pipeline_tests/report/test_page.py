"""What a page says of a load in each of its states."""

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from batch_pipeline.ledger.alerting import Alert, AlertChanges
from batch_pipeline.measure.gate import GateDecision
from batch_pipeline.measure.golden import GoldenScore
from batch_pipeline.measure.rates import Rate
from batch_pipeline.report import refresh_report, report_path, write_report
from batch_pipeline.report.facts import PageFacts, gather
from batch_pipeline.report.page import page_html
from batch_pipeline.stages.review_status import ReviewStatus
from batch_pipeline.stages.scorecard import empty_scorecard
from batch_pipeline.warehouse import warehouse_path
from batch_pipeline_tests.night import Night
from batch_pipeline_tests.report.made_history import LAST, History, add_batches, card_of, make

HISTORY = History(
    nights=40,
    slices={"channel": ["card", "fees", "top-up"]},
    validity=lambda back: {0: 0.975, 1: 0.983, 2: 0.989}.get(back, 0.994),
    slice_rate=lambda name, back: 0.75 if name == "fees" and back == 0 else 0.994,
)
COMMAND = "batch-pipeline {} questions --date 2026-11-20 {}"


class Shown:
    """A page's text, without its markup and its style."""

    def __init__(self, facts: PageFacts) -> None:
        self.html = page_html(facts)
        text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", self.html, flags=re.DOTALL)
        self.text = re.sub(r"\s+", " ", html.unescape(text))

    def part(self, first: str, last: str) -> str:
        start = self.text.index(first)
        return self.text[start : self.text.index(last, start)]

    @property
    def todo(self) -> str:
        return self.part("What needs a person", "Every source row, accounted for")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BATCH_PIPELINE_STATE", str(folder / "state"))
        gates = {"min_validity": 0.95, "golden_drop_points": 3, "max_cost_usd": 25}
        made = make(folder, HISTORY, gates=gates)
        add_batches(made, [0.5, 19.5, None])
        yield made


@pytest.fixture(scope="module")
def facts(night: Night) -> PageFacts:
    return gather(night.context, card_of(night, HISTORY))


def shown(facts: PageFacts, **changes: Any) -> Shown:
    return Shown(replace(facts, card=replace(facts.card, **changes)))


def test_a_promoted_load_says_so_and_its_sum_adds_up(facts: PageFacts) -> None:
    page = shown(facts)

    assert (
        "✓ Promoted The gate let it through; 11,870 rows are in the system of record." in page.text
    )
    part = page.part("Every source row, accounted for", "Night by night")
    assert "source rows 12,000" in part
    numbers = [int(n.replace(",", "")) for n in re.findall(r"[=+] ([\d,]+)", part)]
    assert numbers == [11_870, 18, 112, 0]


def test_a_held_load_says_why_and_how_to_go_on(facts: PageFacts) -> None:
    page = shown(
        facts, gate=GateDecision(False, ["the score fell", "and more"], "f"), promoted_rows=0
    )

    assert "Held Not promoted: the score fell. and more" in page.text
    assert page.todo.index("✕ held") < page.todo.index("▲ page")
    assert COMMAND.format("promote", "--reason 'why it may go out'") in page.text


def test_an_override_shows_its_reason(facts: PageFacts) -> None:
    gate = GateDecision(True, ["override: it is urgent", "the score fell"], "f", "it is urgent")
    page = shown(facts, gate=gate)

    assert "◆ Promoted by override" in page.text
    assert "“it is urgent”" in page.text
    assert page.text.count("override: it is urgent") == 0


def test_a_leak_comes_before_everything(facts: PageFacts) -> None:
    rates = {**facts.card.rates, "coverage": Rate(11_999, 12_000)}
    counts = {**facts.card.dispositions, "validated": 11_869}
    gate = GateDecision(False, ["coverage is 11,999 of 12,000 source rows, a leak"], "f")
    page = shown(facts, rates=rates, dispositions=counts, gate=gate, promoted_rows=0)

    assert "Coverage 99.99% ✕ 1 unaccounted" in page.text
    assert re.search(r"What needs a person The most urgent first\. ✕ leak", page.text)


def test_a_batch_that_does_not_add_up_is_a_leak_though_every_row_is_there(facts: PageFacts) -> None:
    page = shown(facts, batches_reconciled=False)

    assert "Coverage 100.00% ✕ does not add up" in page.text
    assert "✕ leak A batch does not add up" in page.text


def test_a_load_in_flight_shows_what_is_known(facts: PageFacts) -> None:
    counts = {"validated": 4_000, "quarantined": 0, "human_review": 0}
    page = shown(facts, settled=False, gate=None, golden=None, dispositions=counts, promoted_rows=0)

    assert "… In flight 8,000 rows of 12,000 have no disposition yet" in page.text
    assert "Coverage 100.00% … 8,000 open" in page.text
    assert "+ 8,000" in page.part("Every source row, accounted for", "Night by night")


def test_a_cancelled_load_says_why_and_how_to_begin_anew(facts: PageFacts) -> None:
    assert facts.record is not None
    record = replace(facts.record, cancelled_at=datetime.now(UTC), cancel_reason="wrong file")
    gate = GateDecision(False, ["the load was cancelled: wrong file"], "f")
    page = Shown(replace(facts, record=record, card=replace(facts.card, gate=gate)))

    assert "✕ Cancelled The load was cancelled: wrong file." in page.text
    assert COMMAND.format("run", "--resend") in page.text
    assert "The gate is closed" not in page.text


def test_a_purged_load_says_so(facts: PageFacts) -> None:
    assert facts.record is not None
    record = replace(facts.record, purged_at=datetime(2026, 12, 1, tzinfo=UTC))

    assert "rows purged 2026-12-01 00:00 UTC" in Shown(replace(facts, record=record)).text


def test_without_a_golden_set_nothing_is_graded(facts: PageFacts) -> None:
    spec = facts.spec.model_copy(update={"golden": None})
    page = Shown(replace(facts, spec=spec, card=replace(facts.card, golden=None)))

    assert "Golden score – ○ no golden set Quality is not measured." in page.text


def test_without_history_there_are_no_charts(facts: PageFacts, night: Night) -> None:
    card = empty_scorecard("questions", night.context.load)
    page = Shown(replace(facts, card=card, nights=[], slices=[], labels={}, batches=[], findings=[], trends={}, broken=[], noticed=[]))  # fmt: skip

    assert "<svg" not in page.html
    assert "Not begun No source rows were read yet." in page.text
    assert "✓ nothing So far nothing asks for a look." in page.text


def test_a_clean_load_needs_nobody(facts: PageFacts) -> None:
    counts = {"validated": 12_000, "quarantined": 0, "human_review": 0}
    clean = replace(facts, findings=[], trends={}, broken=[], noticed=[], alerts=[])
    page = shown(clean, dispositions=counts, reasons=[])

    assert "✓ nothing Every row was validated, and no signal asks for a look." in page.text


def test_an_unpriced_request_makes_the_cost_a_lower_bound(facts: PageFacts) -> None:
    page = shown(facts, unpriced_requests=7)

    assert "◆ a lower bound" in page.text
    assert "What 7 requests cost is not known" in page.todo


def test_a_falling_rate_and_a_broken_slice_are_paged_with_their_figures(facts: PageFacts) -> None:
    page = shown(facts)

    assert "▲ page Trend of validity Output validity falls: " in page.todo
    assert "▲ page Slice fees broke Validity where channel is fees: 7" in page.todo
    assert "✕ falling: page" in page.text
    assert re.search(r"▲ page −\d\.\d\d pt a night, fitted over \d+ nights", page.text)
    assert 'class="fit"' in page.html
    assert "fees ▲ broken" in page.text


def test_rows_for_review_come_with_the_command_that_exports_them(facts: PageFacts) -> None:
    assert "● review 112 rows wait for review" in shown(facts).todo
    assert COMMAND.format("review export", "--to review_2026-11-20.csv") in shown(facts).todo


def test_rows_that_people_decided_wait_no_more(facts: PageFacts) -> None:
    some = ReviewStatus("questions", "2026-11-20", 1, 112, 80, 20, 2, None, None, None, 1.0, {}, promoted=True)  # fmt: skip
    part = Shown(replace(facts, review=some)).todo
    none_left = Shown(replace(facts, review=replace(some, dropped=12))).todo

    assert "● review 10 rows wait for review" in part
    assert "102 of 112 rows decided: 80 accepted as the model answered, 20 fixed, 2 dropped" in part
    assert "wait for review" not in none_left


def test_the_worst_slice_comes_first(facts: PageFacts) -> None:
    names = re.findall(
        r'<tr><th scope="row" class="any">([\w-]+)', page_html(facts).split('class="heat"')[1]
    )

    assert names[0] == "fees"


def test_a_single_night_is_a_dot_with_a_whisker(facts: PageFacts) -> None:
    page = Shown(replace(facts, nights=facts.nights[-1:], trends={}))
    chart = page.html[page.html.index('id="validity-title"') :].split("</ul>")[0]

    assert "1 graded night." in page.text
    assert chart.count("<circle") == 1
    assert chart.count('class="whisker"') == 2  # in the picture, and in its key
    assert 'class="area"' not in chart


def test_what_never_happened_is_said_and_not_drawn(facts: PageFacts) -> None:
    page = shown(facts)

    assert "Zero on every night, and not drawn: refusal rate, expiry rate." in page.text
    assert "Refusal rate by night" not in page.text
    assert "Truncation rate by night" in page.text


def test_batches_are_held_against_24_hours_the_slowest_first(facts: PageFacts) -> None:
    part = shown(facts).part("Batch turnaround against 24 hours", "Mix of")

    assert "3 batches: half ended within 30 min, 95% within 19.5 h" in part
    assert "1 not ended." in part
    assert part.index("open, late") < part.index("19.5 h, late") < part.rindex("30 min")


def test_spend_is_split_by_kind_and_adds_up_to_the_whole(facts: PageFacts) -> None:
    part = shown(facts).part("Tokens Count", "Batch turnaround")
    before_tiers = part[: part.index("of which")]
    shares = [float(text) for text in re.findall(r"([\d.]+)%", before_tiers)]

    assert sum(shares) == pytest.approx(100, abs=0.3)


def test_reasons_beyond_the_first_forty_are_counted(facts: PageFacts) -> None:
    page = shown(facts, reasons=[("quarantined", f"reason {n}", 2) for n in range(100)])

    assert "reason 39" in page.text
    assert "reason 40" not in page.text
    assert "60 more reasons with 120 rows are not shown." in page.text


def test_a_golden_score_says_what_it_can_see(facts: PageFacts) -> None:
    page = shown(facts, golden=GoldenScore(168, 200, Decimal("0.91")))

    assert "✕ 7.0 pt below the baseline; hold: " in page.text
    assert re.search(
        r"168 of 200 golden rows, which reliably show drops of \d\.\d pt or more", page.text
    )


def test_the_page_shows_the_nights_up_to_its_own(night: Night) -> None:
    earlier = replace(night.context, load="2026-11-10")
    facts = gather(earlier, replace(card_of(night, HISTORY), load="2026-11-10"))
    page = Shown(facts)

    assert facts.nights[-1].load == "2026-11-10"
    assert "2026-11-11" not in page.text


def test_open_alerts_are_listed(night: Night, facts: PageFacts) -> None:
    at = datetime(2026, 11, 21, 5, tzinfo=UTC)
    alert = Alert("a1", "c", "questions", "2026-11-20", "leading", "page", "Disk <full>", "It is.", at, at, None, None)  # fmt: skip
    night.ledger.record_alerts(AlertChanges(opened=[alert]), at)
    page = Shown(replace(facts, alerts=gather(night.context, facts.card).alerts))

    assert "Disk <full> (2026-11-20), page, since 2026-11-21 05:00 UTC" in page.todo


def test_writing_never_opens_the_warehouse(night: Night, facts: PageFacts) -> None:
    path = warehouse_path(night.context.settings.state)
    content = path.read_bytes()
    path.write_bytes(b"somebody else has this open")
    try:
        written = write_report(night.context, facts.card)
    finally:
        path.write_bytes(content)

    assert "Promoted" in written.read_text()


def test_a_later_page_is_linked_from_the_one_before_and_its_time_stays(
    night: Night, facts: PageFacts
) -> None:
    before = replace(night.context, load="2026-11-19")
    first = write_report(before, replace(facts.card, load="2026-11-19"))
    assert "no later load" in first.read_text() or "2026-11-20 →" in first.read_text()
    written = first.stat().st_mtime_ns
    second = write_report(night.context, facts.card)

    assert '<a rel="next" href="2026-11-20.html">2026-11-20 →</a>' in first.read_text()
    assert first.stat().st_mtime_ns == written
    assert '<a rel="prev" href="2026-11-19.html">' in second.read_text()
    again = write_report(before, replace(facts.card, load="2026-11-19"))
    assert '<a rel="next" href="2026-11-20.html">' in again.read_text()


def test_a_page_older_than_the_promotion_is_written_again_and_no_other(
    night: Night, facts: PageFacts
) -> None:
    path = write_report(night.context, facts.card)
    refresh_report(night.context, facts.card)
    assert path == report_path(night.context.settings.state, "questions", str(LAST))
    path.write_text("old")
    refresh_report(night.context, facts.card)
    assert path.read_text() == "old"

    night.ledger.record_promotion(night.context.record(), rows=1, fingerprint="f")
    refresh_report(night.context, facts.card)
    assert "Promoted" in path.read_text()


def test_no_page_says_that_something_was_rounded_up_to_all(facts: PageFacts) -> None:
    rates = {**facts.card.rates, "validity": Rate(11_999_999, 12_000_000)}

    assert "Output validity 99.99%" in shown(facts, rates=rates).text
