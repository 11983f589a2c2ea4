"""A bake-off's page and sentences: the decision first, what the rows cannot show said plainly, and nothing unescaped."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from batch_pipeline.bakeoff.candidates import open_bakeoff
from batch_pipeline.bakeoff.outcomes import BakeoffResult
from batch_pipeline.measure.bakeoff import Accepted, RowOutcome, rank
from batch_pipeline.report.bakeoff_page import bakeoff_html, write_bakeoff
from batch_pipeline.report.bakeoff_words import markdown, sentences, to_json
from batch_pipeline.settings import Settings
from batch_pipeline_tests.night import HAIKU, OPUS, SONNET, Night

HOSTILE = "<b>a</b>&\"'"
Make = Callable[..., BakeoffResult]


def row(outcome: str = "valid", *, right: bool = True, usd: str = "0.001") -> RowOutcome:
    valid = outcome == "valid"
    climbs = outcome in ("contract_broken", "refusal", "truncated")
    return RowOutcome(outcome, climbs, valid and right, Decimal(usd), 5)


@pytest.fixture
def made(night: Callable[..., Night]) -> Make:
    """A result of these rows by model, in the order given."""

    def make(
        *outcomes: list[RowOutcome], names: tuple[str, ...] = (HAIKU, SONNET, OPUS)
    ) -> BakeoffResult:
        context = night().context
        bakeoff = open_bakeoff(context.workload, [HAIKU, SONNET, OPUS], Settings.from_environment())
        accepted = Accepted(Fraction(9, 10), Decimal(3))
        return BakeoffResult(
            bakeoff=bakeoff,
            ranking=rank(names[: len(outcomes)], outcomes, accepted),
            accepted=accepted,
            baseline="the declared 90.0%",
            sent_at=datetime(2026, 11, 20, 3, tzinfo=UTC),
            usual_rows=500_000,
        )

    return make


CHEAP = [row()] * 36 + [row("contract_broken")] * 4
DEAR = [row(usd="0.005")] * 40
WRONG = [row(right=False, usd="0.0001")] * 40


def test_the_decision_comes_first_and_then_the_cascade(made: Make) -> None:
    said = sentences(made(WRONG, CHEAP, DEAR))
    assert said[0] == (
        f"The cheapest model that passes is {SONNET}: $0.00111 per good row, score 90.0% (76.9% to 96.0%), "
        "validity 90.0%."
    )
    assert said[1].startswith(
        f"Of the cascades in which a golden row goes on, the cheapest that passes is {SONNET} → {OPUS}: $0.00150 per good row"
    )
    assert "4 of 40 rows (10.0%) go on" in said[1]
    assert (
        f"dearer than {SONNET} by itself, and leaves 0 rows without a good answer where that leaves 4."
        in said[1]
    )


def test_a_cascade_in_which_no_row_goes_on_is_said_to_be_its_first_model_and_not_chosen(
    made: Make,
) -> None:
    """It is the cheapest of the table, and the sentences, the page and the table say why it was not chosen."""
    result = made([row(usd="0.0005")] * 40, CHEAP, DEAR)
    cheapest = min(result.ranking.cascades, key=lambda each: each.usd)
    assert cheapest.passes and cheapest.models[0] == HAIKU
    assert result.ranking.chosen_cascade is not None
    assert result.ranking.chosen_cascade.models == (SONNET, OPUS)
    assert result.ranking.chosen_cascade.usd > cheapest.usd
    said = sentences(result)
    assert said[1].startswith("Of the cascades in which a golden row goes on, the cheapest")
    assert said[2].startswith(f"No golden row of {HAIKU} goes on to a second model: on these rows")
    lines = {each.split(" | ")[0].strip("| "): each for each in markdown(result).splitlines()[2:]}
    assert lines[cheapest.name].endswith("| as its first model alone |")
    assert lines[f"{SONNET} → {OPUS}"].endswith("| cheapest where a row goes on |")
    assert lines[HAIKU].endswith("| cheapest |")
    html = bakeoff_html(result)
    assert "as its first model alone" in html
    assert said[2] in html


def test_where_no_row_goes_on_at_all_one_sentence_says_it(made: Make) -> None:
    said = sentences(made([row()] * 40, DEAR))
    assert said[1] == (
        "No cascade of two differs from its first model: no golden row goes on to a second."
    )
    assert sum("goes on" in each for each in said) == 1


def test_the_apis_own_words_for_a_refusal_are_said_and_escaped_on_the_page(made: Make) -> None:
    refused = [row("invalid_request", usd="0")] * 40
    result = replace(made(refused, CHEAP, DEAR), refusals={HAIKU: f"effort: {HOSTILE}"})
    said = f"{HAIKU} does not pass: the API refused every request (invalid_request): effort: {HOSTILE}."
    assert said in sentences(result)
    html = bakeoff_html(result)
    assert HOSTILE not in html
    assert "effort: &lt;b&gt;a&lt;/b&gt;" in html


def test_what_the_rows_cannot_tell_apart_is_said(made: Make) -> None:
    said = "\n".join(
        sentences(made(CHEAP, [row(right=n > 1, usd="0.01") for n in range(40)], WRONG))
    )
    assert f"cannot tell {SONNET} from {HAIKU}" in said
    assert f"{OPUS} is worse than {HAIKU} by more than chance" in said
    assert "With 40 golden rows, a true difference" in said


def test_few_golden_rows_are_warned_of(made: Make) -> None:
    assert "12 golden rows are few: one row is 8.3 points." in "\n".join(
        sentences(made([row()] * 12, [row(usd="1")] * 12))
    )
    assert "are few" not in "\n".join(sentences(made([row()] * 30, [row(usd="1")] * 30)))


def test_where_none_passes_the_best_is_named_and_each_reason_given(made: Make) -> None:
    result = made(WRONG, [row("invalid_request", usd="0")] * 40)
    said = sentences(result)
    assert said[0].startswith(f"No model passes; the best is {HAIKU}")
    assert f"{SONNET} does not pass: the API refused every request (invalid_request)." in said
    assert to_json(result)["chosen"] is None


def test_what_the_usual_load_would_cost_is_said(made: Make) -> None:
    assert any(
        "A load of 500,000 rows, the usual size, would cost about $500.00" in s
        for s in sentences(made(CHEAP, DEAR))
    )


def test_the_page_is_one_file_that_asks_for_nothing_and_runs_nothing(made: Make) -> None:
    html = bakeoff_html(made(WRONG, CHEAP, DEAR))
    assert "default-src 'none'" in html
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", html)
    assert "prefers-color-scheme: dark" in html


def test_names_are_escaped(made: Make) -> None:
    result = made(CHEAP, DEAR, names=(HOSTILE, OPUS))
    html = bakeoff_html(replace(result, baseline=f"a share {HOSTILE}"))
    assert HOSTILE not in html
    assert "&lt;b&gt;a&lt;/b&gt;" in html


def test_the_chart_says_by_shape_and_word_what_it_says_by_colour(made: Make) -> None:
    html = bakeoff_html(made(WRONG, CHEAP, DEAR))
    assert len(re.findall(r'<circle class="dot', html)) == 3
    assert html.count('<circle class="dot is-held"') == 1
    assert len(re.findall(r'<rect class="dot', html)) == 3
    assert "hollow: does not pass" in html
    numbers = [float(n) for n in re.findall(r'(?:cx|cy)="([^"]+)"', html)]
    assert all(0 <= n <= 760 for n in numbers)


def test_the_json_beside_the_page_has_its_numbers(made: Make) -> None:
    result = made(WRONG, CHEAP, DEAR)
    path = write_bakeoff(result)
    kept = json.loads(path.with_suffix(".json").read_text())
    assert kept == json.loads(json.dumps(to_json(result)))
    assert kept["chosen"] == SONNET
    assert kept["chosen_cascade"] == [SONNET, OPUS]
    assert kept["models"][1]["usual_load_usd"] == 500.0


def test_the_page_lies_where_no_loads_page_links_to(made: Make) -> None:
    path = write_bakeoff(made(CHEAP, DEAR))
    assert path.parent.name == "bakeoffs"
    assert not list(path.parent.parent.glob("*.html"))


def test_the_markdown_has_a_line_for_every_candidate(made: Make) -> None:
    result = made(WRONG, CHEAP, DEAR)
    assert len(markdown(result).splitlines()) == 2 + 3 + len(result.ranking.cascades)
