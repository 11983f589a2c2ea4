"""The index: every workload with its last verdict, those that need a look first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from batch_pipeline.ledger import Load
from batch_pipeline.report.banner import SHAPES
from batch_pipeline.report.chart import sparkline
from batch_pipeline.report.rendering import render
from batch_pipeline.report.wording import percent, plural, usd
from batch_pipeline.rows import replacing
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.warehouse.history import last_of_each
from batch_pipeline.workload.spec import NAME

_NIGHTS = 30
_MEASURES = {
    "coverage": "Coverage",
    "validity": "Output validity",
    "cost_per_good_row_usd": "Cost per good row",
    "escalation_rate": "Escalation rate",
    "golden_score": "Golden score",
}
_URGENCY = ("bad", "watch", "open", "none", "good")


@dataclass(frozen=True)
class Line:
    """A workload: what became of its newest load, and the numbers of its last graded one."""

    workload: str
    load: str
    state: str
    word: str
    age: str
    page: str | None
    measured: str | None
    numbers: Sequence[tuple[str, str, Sequence[str]]]

    @property
    def shape(self) -> str:
        return SHAPES[self.state]


def index_path(state: Path) -> Path:
    return state / "reports" / "index.html"


def write_index(context: LoadContext) -> Path:
    """Writes the index anew from the ledger and the Parquet copy of the nights. Many may do so at once."""
    state = context.settings.state
    # A bake-off's loads are of no workload that anybody declared; its name could not be.
    newest = [one for one in context.ledger.newest_of_each() if NAME.fullmatch(one.workload)]
    nights = _nights(context)
    today = datetime.now(UTC).date()
    lines = [_line(state, one, nights.get(one.workload, []), today) for one in newest]
    lines.sort(key=lambda line: (_URGENCY.index(line.state), line.workload))
    path = index_path(state)
    html = render(
        "index.html.j2",
        lines=lines,
        measures=list(_MEASURES.values()),
        written_at=datetime.now(UTC),
    )
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def _line(state: Path, load: Load, nights: Sequence[dict[str, Any]], today: date) -> Line:
    standing, word = _standing(load, nights[-1] if nights else None)
    page = index_path(state).parent / load.workload / f"{load.load}.html"
    last = nights[-1] if nights else {}
    numbers = []
    for name, words in _MEASURES.items():
        values = [night[name] for night in nights]
        write = usd if name.endswith("_usd") else percent
        known = [value for value in values if value is not None]
        numbers.append((words, write(last.get(name)), sparkline(values) if len(known) > 1 else []))
    return Line(
        workload=load.workload,
        load=load.load,
        state=standing,
        word=word,
        age=_age((today - date.fromisoformat(load.load)).days),
        page=f"{load.workload}/{load.load}.html" if page.is_file() else None,
        measured=last.get("load"),
        numbers=numbers,
    )


def _standing(load: Load, night: dict[str, Any] | None) -> tuple[str, str]:
    if load.cancelled:
        return "bad", "cancelled"
    if load.rolled_back:
        return "bad", "rolled back"
    if load.promoted_at is not None:
        overridden = night and night["load"] == load.load and night["override_reason"] is not None
        return ("watch", "promoted by override") if overridden else ("good", "promoted")
    if load.gate == "hold":
        return "bad", "held"
    if load.stopped is not None:
        return "bad", "stopped"
    return ("good", "may be promoted") if load.gate == "promote" else ("open", "in flight")


def _age(days: int) -> str:
    if days < 0:
        return f"in {plural(-days, 'day')}"
    return {0: "today", 1: "yesterday"}.get(days, f"{days:,} days ago")


def _nights(context: LoadContext) -> dict[str, list[dict[str, Any]]]:
    """The last graded nights of each workload, the oldest first."""
    columns = ["workload", "load", "override_reason", *_MEASURES]
    rows = last_of_each(context.settings, columns, _NIGHTS)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(dict(zip(columns, row, strict=True)))
    return found
