"""What all requests of a load begin with, and the lint that refuses a beginning which varies between rows.

A cached prefix must be the same to the byte: one column in the system prompt that differs between rows, an id or
a time, makes every request write an entry that nobody reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Load
from batch_pipeline.measure.caching import USUAL_MINIMUM
from batch_pipeline.measure.tokens import guessed_tokens
from batch_pipeline.rows import Place
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.source_columns import GOLDEN, ROW
from batch_pipeline.workload.data_file import literal
from batch_pipeline.workload.workload import Workload

# Most columns differ within so many rows, and are then not looked at any further.
_FIRST_LOOK = 200
# Different columns may render the same text; after so many different ones they are taken to do.
_MOST_RENDERED = 1_000
_BEFORE, _AFTER = 12, 28


@dataclass(frozen=True)
class SharedPrefix:
    """What all production rows begin with: `system` (None for none), then `head`, `head_parts` of the template.

    `varying` are the columns of the system prompt that differ between rows: nothing is shared then.
    """

    system: str | None
    head: str
    head_parts: int
    varying: tuple[str, ...]

    @property
    def text(self) -> str:
        return "" if self.varying else (self.system or "") + self.head


def find_shared_prefix(
    connection: duckdb.DuckDBPyConnection, workload: Workload, source: Place
) -> SharedPrefix:
    """Looks at all production rows of a load's source.parquet, column by column."""
    prompt = workload.prompt
    parts = prompt.parts or ()
    named = [column for _, column in parts if column is not None]
    constant = constant_columns(connection, source, {*named, *prompt.system_columns})
    row = _first_row(connection, source, prompt.columns)
    varying = tuple(column for column in prompt.system_columns if column not in constant)
    if row is None:
        return SharedPrefix(None, "", 0, ())
    if varying:
        return SharedPrefix(None, "", 0, varying)
    head_parts = 0
    for _, column in parts:
        if column is not None and column not in constant:
            break
        head_parts += 1
    # Something must be left to ask, and a block of nothing but blanks is refused by the API.
    head_parts = min(head_parts, max(len(parts) - 1, 0))
    head = prompt.render_in_two(head_parts)(row)[0] if head_parts else ""
    if not head.strip():
        head, head_parts = "", 0
    system = prompt.render_system(row) if prompt.render_system else None
    return SharedPrefix(system, head, head_parts, ())


def constant_columns(
    connection: duckdb.DuckDBPyConnection, source: Place, columns: Sequence[str] | set[str]
) -> set[str]:
    """Those of `columns` that have one value, or none at all, in all production rows."""
    left = sorted(columns)
    rows = f"(FROM read_parquet({literal(str(source))}) WHERE NOT {GOLDEN})"
    for relation in (f"(FROM {rows} LIMIT {_FIRST_LOOK})", rows):
        if not left:
            break
        # As text: 0.0 and -0.0 are one value to SQL, and two to a prompt.
        same = ", ".join(
            f"count({n}) IN (0, count(*)) AND min({n}::VARCHAR) IS NOT DISTINCT FROM max({n}::VARCHAR)"
            for n in map(quoted, left)
        )
        flags = connection.execute(f"SELECT {same} FROM {relation}").fetchall()[0]
        left = [column for column, flag in zip(left, flags, strict=True) if flag]
    return set(left)


def require_constant_prefix(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> None:
    """Raises ConfigurationError where a prefix that is to be cached differs between rows, and shows how."""
    workload = context.workload
    prompt = workload.prompt
    if not prompt.system_columns or prompt.cache == "none":
        return
    source = context.folder(record).source
    constant = constant_columns(connection, source, prompt.system_columns)
    varying = [column for column in prompt.system_columns if column not in constant]
    row = _first_row(connection, source, prompt.columns)
    if not varying or row is None or prompt.render_system is None:
        return
    if prompt.cache == "auto" and not _would_cache(context, row, varying):
        return
    found = _first_difference(connection, workload, source)
    if found is None:
        return
    where, one, other = found
    columns = ", ".join(repr(column) for column in varying)
    shown = "" if workload.spec.sensitive else f": …{one!r}… in one row, …{other!r}… in another"
    raise ConfigurationError(
        f"{context}: the system prompt names {columns}, which differ{'s' if len(varying) == 1 else ''} between rows, "
        f"so that no request finds another's prefix in the cache and each pays for writing its own. The first "
        f"difference is at character {where + 1:,}{shown}. Move it to the end of the user message, or set "
        "prompt.cache: none."
    )


def _would_cache(context: LoadContext, row: Mapping[str, Any], varying: Sequence[str]) -> bool:
    """Whether `auto` would cache the system prompt if its varying columns were gone."""
    render = context.workload.prompt.render_system
    assert render is not None
    rest = len(render(row).encode()) - sum(len(str(row[column]).encode()) for column in varying)
    table = load_prices(context.settings.prices)
    return any(
        guessed_tokens(rest, tier.model).mean
        >= (table.facts(tier.model).min_cacheable_tokens or USUAL_MINIMUM)
        for tier in context.workload.spec.tiers
    )


def _first_difference(
    connection: duckdb.DuckDBPyConnection, workload: Workload, source: Place
) -> tuple[int, str, str] | None:
    """Where two rendered system prompts part, and both around there; None where all are the same."""
    render, columns = workload.prompt.render_system, workload.prompt.system_columns
    assert render is not None
    named = ", ".join(map(quoted, columns))
    lines = connection.execute(
        f"SELECT {named} FROM read_parquet({literal(str(source))}) WHERE NOT {GOLDEN} "
        f"GROUP BY ALL ORDER BY min({ROW}) LIMIT {_MOST_RENDERED}"
    ).fetchall()
    first = render(dict(zip(columns, lines[0], strict=True)))
    for line in lines[1:]:
        other = render(dict(zip(columns, line, strict=True)))
        if other != first:
            where = next(
                (n for n, (a, b) in enumerate(zip(first, other, strict=False)) if a != b),
                min(len(first), len(other)),
            )
            around = slice(max(where - _BEFORE, 0), where + _AFTER)
            return where, first[around], other[around]
    return None


def _first_row(
    connection: duckdb.DuckDBPyConnection, source: Place, columns: Sequence[str]
) -> dict[str, Any] | None:
    named = ", ".join(map(quoted, columns))
    lines = connection.execute(
        f"SELECT {named} FROM read_parquet({literal(str(source))}) WHERE NOT {GOLDEN} LIMIT 1"
    ).fetchall()
    return dict(zip(columns, lines[0], strict=True)) if lines else None
