"""Writes the page of a bake-off, and the same numbers as JSON beside it."""

import json
from datetime import UTC, datetime
from pathlib import Path

from batch_pipeline.bakeoff.candidates import bakeoff_path
from batch_pipeline.bakeoff.outcomes import BakeoffResult
from batch_pipeline.measure.bakeoff import FEW_ROWS, Candidate
from batch_pipeline.measure.rates import Rate
from batch_pipeline.report.bakeoff_chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    draw_bakeoff,
)
from batch_pipeline.report.bakeoff_words import between, dollars, sentences, status, to_json
from batch_pipeline.report.banner import SHAPES
from batch_pipeline.report.rendering import render
from batch_pipeline.report.wording import percent, plain
from batch_pipeline.rows import replacing


def write_bakeoff(result: BakeoffResult) -> Path:
    """Writes both files, replacing earlier ones, and returns the page's path."""
    path = bakeoff_path(result.bakeoff)
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(to_json(result), indent=2), encoding="utf-8")
    write_page(result, path)
    return path


def write_page(result: BakeoffResult, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(bakeoff_html(result), encoding="utf-8")


def bakeoff_html(result: BakeoffResult) -> str:
    """The page as text: one file, without scripts or requests."""
    ranking = result.ranking
    said = sentences(result)
    candidates = [*ranking.models, *ranking.cascades]
    state = "good" if ranking.chosen else "bad"
    if state == "good" and ranking.reference.rows < FEW_ROWS:
        state = "watch"
    return render(
        "bakeoff.html.j2",
        workload=result.bakeoff.workload.name,
        bakeoff_id=result.bakeoff.bakeoff_id,
        sent_at=result.sent_at,
        written_at=datetime.now(UTC),
        golden_rows=ranking.reference.rows,
        state=state,
        shape=SHAPES[state],
        decision=said[0],
        cascade=said[1],
        said=said[2:],
        drawing=draw_bakeoff(candidates),
        lines=[_line(n, one, result) for n, one in enumerate(candidates, 1)],
        outcomes=_outcomes(candidates),
        baseline=result.baseline,
        usual_rows=result.usual_rows,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=RIGHT,
        top=TOP,
        bottom=BOTTOM,
    )


def _line(number: int, one: Candidate, result: BakeoffResult) -> dict[str, object]:
    ranking = result.ranking
    picked = one in (ranking.chosen, ranking.chosen_cascade)
    validity = one.validity
    tokens, usual = one.mean_output_tokens, result.usual_rows
    return {
        "number": number,
        "name": one.name,
        "state": "good" if picked else "none" if one.passes else "bad",
        "shape": SHAPES["good" if picked else "none" if one.passes else "bad"],
        "word": status(one, ranking),
        "why": "; ".join(one.objections),
        "score": percent(one.score, 1),
        "score_interval": between(Rate(one.correct, one.rows)),
        "validity": percent(validity.value, 1),
        "validity_interval": between(validity),
        "escalated": percent(one.escalated / one.rows, 1) if len(one.models) > 1 else "",
        "good": dollars(one.usd_per_good_row),
        "right": dollars(one.usd_per_correct_row),
        "spent": dollars(one.usd),
        "tokens": "–" if tokens is None else f"{tokens:,.1f}",
        "load": dollars(None if usual is None else one.usd_per_row * usual),
    }


def _outcomes(candidates: list[Candidate]) -> list[tuple[str, list[int]]]:
    """What became of the rows: outcome in words, and the rows of each candidate."""
    kinds = sorted(
        {kind for one in candidates for kind in one.outcomes}, key=lambda k: (k != "valid", k)
    )
    return [(plain(kind), [one.outcomes.get(kind, 0) for one in candidates]) for kind in kinds]
