"""Writes the page of a load, its link on the page before, and the index of all workloads."""

import os
from pathlib import Path

from markupsafe import Markup

from batch_pipeline.report import tables
from batch_pipeline.report.attention import needs_a_person
from batch_pipeline.report.banner import banner_of
from batch_pipeline.report.chart import HEIGHT, WIDTH
from batch_pipeline.report.facts import SLICE_NIGHTS, PageFacts, gather
from batch_pipeline.report.index import write_index
from batch_pipeline.report.night_series import Lines, charts, never
from batch_pipeline.report.rendering import render
from batch_pipeline.report.savings_section import savings_section
from batch_pipeline.report.slice_map import heat_maps
from batch_pipeline.report.tiles import parts, tiles
from batch_pipeline.rows import replacing
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.scorecard import Scorecard

# What stands on a page until there is a later load to link to.
_NO_NEXT = Markup('<span class="dim">no later load</span>')


def report_path(state: Path, workload: str, load: str) -> Path:
    """Where the page of a load lies, whether or not it was written."""
    return state / "reports" / workload / f"{load}.html"


def write_report(context: LoadContext, card: Scorecard) -> Path:
    """Writes the page of a load, replacing an earlier one, and the index; returns the page's path.

    Reads the ledger and the Parquet copies of the metrics, never the warehouse. Works at any moment of a load.
    """
    facts = gather(context, card)
    state = context.settings.state
    path = report_path(state, card.workload, card.load)
    later = sorted(p.stem for p in path.parent.glob("[!.]*.html") if p.stem > card.load)
    html = page_html(facts, _next_link(later[0]) if later else _NO_NEXT)
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    if facts.previous is not None:
        _link(report_path(state, card.workload, facts.previous), card.load)
    write_index(context)
    return path


def refresh_report(context: LoadContext, card: Scorecard) -> None:
    """Writes the page of a promoted load again where it is older: who promoted it died before writing it."""
    record = context.ledger.load(card.workload, card.load)
    promoted_at = record.promoted_at if record else None
    path = report_path(context.settings.state, card.workload, card.load)
    written = path.stat().st_mtime if path.is_file() else 0.0
    if promoted_at is not None and written < promoted_at.timestamp():
        write_report(context, card)


def page_html(facts: PageFacts, next_link: Markup = _NO_NEXT) -> str:
    """The page as text."""
    card, spec = facts.card, facts.spec
    broken = {(one.measure, one.column, one.slice) for one in facts.broken}
    maps = heat_maps(facts.slices, broken, SLICE_NIGHTS)
    floor = spec.gates.min_validity
    lines = Lines(
        min_validity=None if floor is None else float(floor),
        golden_drop=float(spec.gates.golden_drop_points) / 100,
    )
    reasons, more_reasons = tables.reason_rows(card)
    return render(
        "scorecard.html.j2",
        card=card,
        spec=spec,
        day=facts.day,
        record=facts.record,
        written_at=facts.written_at,
        previous=facts.previous,
        next_link=next_link,
        verdict=banner_of(facts),
        tiles=tiles(facts),
        todo=needs_a_person(facts),
        alerts=facts.alerts,
        parts=parts(card),
        nights=facts.nights,
        earlier=facts.earlier_nights,
        charts=charts(facts.nights, lines, facts.trends),
        never=never(facts.nights),
        width=WIDTH,
        height=HEIGHT,
        maps=maps,
        reasons=reasons,
        more_reasons=more_reasons,
        spend=tables.spend_bars(card),
        savings=savings_section(card, facts.month),
        explained=facts.explained.sentence if facts.explained else None,
        tiers=sorted(card.spend.usd_by_tier.items()) if card.spend else [],
        cache_hit_rate=card.spend.cache_hit_rate if card.spend else None,
        turnaround=tables.turnaround(facts.batches, facts.written_at),
        mixes=tables.label_mixes(facts.labels, card.load),
    )


def _next_link(load: str) -> Markup:
    return Markup('<a rel="next" href="{0}.html">{0} →</a>').format(load)


def _link(page: Path, load: str) -> None:
    """Puts the link to `load` on the page before it. Its time stays: its content is as old as it was."""
    if not page.is_file():
        return
    text, stat = page.read_text(encoding="utf-8"), page.stat()
    if _NO_NEXT in text:
        with replacing(page) as temporary:
            temporary.write_text(text.replace(_NO_NEXT, _next_link(load), 1), encoding="utf-8")
            os.utime(temporary, ns=(stat.st_atime_ns, stat.st_mtime_ns))
