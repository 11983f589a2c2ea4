"""Promotion into a table of a user's Postgres: one transaction per load, one row per key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.rows.query import quoted
from batch_pipeline.targets.postgres_columns import Column, columns_of
from batch_pipeline.targets.postgres_rows import INCOMING, LoadRows, clean
from batch_pipeline.targets.postgres_table import PromotedTable, fit, held_columns
from batch_pipeline.workload.data_file import literal

if TYPE_CHECKING:
    import duckdb

    from batch_pipeline.postgres.session import Session
    from batch_pipeline.rows.place import Place
    from batch_pipeline.settings import Settings
    from batch_pipeline.targets.face import Planned
    from batch_pipeline.warehouse import Promotion, Rollback

# A key is in an index, whose entries Postgres keeps below 2,704 bytes.
_MOST_KEY_BYTES = 2_000
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class PostgresTarget:
    """The table `schema.table` in the Postgres whose connection string the variable `url_env` holds."""

    url_env: str
    schema: str
    table: str
    kind: str = "postgres"

    @property
    def name(self) -> str:
        return f"{self._table} ({self.url_env})"

    @property
    def _table(self) -> PromotedTable:
        return PromotedTable(self.schema, self.table)

    def check(
        self,
        _settings: Settings,
        connection: duckdb.DuckDBPyConnection,
        planned: Planned,
        /,
    ) -> None:
        """As Target.check. A key must fit an index, and hold no NUL character: another would be another key."""
        found = columns_of(planned.columns)
        key = planned.key
        with self._session() as server:
            fit(server, self._table, planned.workload, key, found)
        kind = planned.columns[key]
        if kind != "VARCHAR" and not kind.startswith("ENUM("):
            return
        text = f"CAST({quoted(key)} AS VARCHAR)"
        (wrong,) = connection.execute(
            f"SELECT count(*) FROM {planned.source} WHERE strlen({text}) > {_MOST_KEY_BYTES} OR contains({text}, chr(0))"
        ).fetchall()[0]
        if wrong:
            raise ConfigurationError(
                f"The key column {key!r} has {wrong:,} values that Postgres cannot take for a key: longer than "
                f"{_MOST_KEY_BYTES:,} bytes, or with a NUL character; name another column in source.key, or promote "
                "elsewhere."
            )

    def promote_rows(
        self,
        settings: Settings,
        /,
        *,
        workload: str,
        load: str,
        key: str,
        rows: Place,
        fingerprint: str,
        override_reason: str | None,
    ) -> Promotion:
        """As Target.promote_rows. A NUL character in a text, which Postgres cannot hold, becomes U+FFFD."""
        from batch_pipeline.rows.query import querying
        from batch_pipeline.warehouse import Promotion

        with querying(settings.state / "tmp") as connection, self._session() as server:
            file = f"read_parquet({literal(str(rows))})"
            types = connection.execute(f"DESCRIBE FROM {file}").fetchall()
            columns = columns_of({row[0]: row[1] for row in types})
            _take_turn(server, self._table)
            fitted = fit(server, self._table, workload, key, columns)
            if fitted.statements:
                # Others make the same tables beside theirs.
                _take_turn(server, PromotedTable(self.schema, ""))
                fitted = fit(server, self._table, workload, key, columns)
            for statement in fitted.statements:
                server.run(statement)
            total = _fill(server, connection, file, columns)
            names = [column.name for column in columns]
            work = LoadRows(server, self._table, key, load, names, fitted.former)
            written, removed, superseded = work.replace_rows()
            work.enter(workload, fingerprint, total, override_reason)
            server.commit()
        return Promotion(self.name, total, written, removed, superseded)

    def roll_back(
        self, _settings: Settings, /, *, workload: str, load: str, key: str, reason: str, by: str
    ) -> Rollback | None:
        """As Target.roll_back."""
        from batch_pipeline.warehouse import NotPromotedHereError, Rollback

        with self._session() as server:
            _take_turn(server, self._table)
            try:
                names = _columns_now(server, self._table, workload, load)
            except LookupError:
                setting = "promote.url_env, or promote.table,"
                raise NotPromotedHereError(
                    f"{self._table} in {server.where}", workload, load, setting
                ) from None
            if names is None:
                return None
            owned, restored, kept = LoadRows(server, self._table, key, load, names).take_back()
            server.run(
                f"UPDATE {self._table.promotions} SET rolled_back_at = clock_timestamp(), rolled_back_by = $1, "
                "rollback_reason = $2 WHERE table_name = $3 AND load = $4 AND rolled_back_at IS NULL",
                [clean(by), clean(reason), self.table, load],
            )
            server.commit()
        return Rollback(self.name, owned + kept, owned - restored, restored, kept)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        from batch_pipeline.postgres.session import session

        with session(self.url_env, field="promote.url_env") as server:
            yield server


def _take_turn(server: Session, table: PromotedTable) -> None:
    """Waits for whoever else changes the table now, and keeps others waiting until the transaction ends."""
    server.rows(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text",
        [f"batch-pipeline\n{table.schema}\n{table.table}"],
    )


def _fill(
    server: Session,
    connection: duckdb.DuckDBPyConnection,
    file: str,
    columns: Sequence[Column],
) -> int:
    """Streams the rows into the temporary table of incoming ones; how many they are."""
    shape = ", ".join(f"{quoted(c.name)} {c.arrives}" for c in columns)
    server.run(f"CREATE TEMP TABLE {INCOMING} ({shape}) ON COMMIT DROP")
    cells = ", ".join(f"{c.sent} AS {quoted(c.name)}" for c in columns)
    rows = connection.sql(f"SELECT {cells} FROM {file}").to_arrow_reader(_BATCH_ROWS)
    server.fill(INCOMING, rows)
    for column in columns:
        if column.kind != column.arrives:
            name = quoted(column.name)
            server.run(
                f"ALTER TABLE {INCOMING} ALTER COLUMN {name} TYPE {column.kind} USING {name}::{column.kind}"
            )
    server.run(f"ANALYZE {INCOMING}")
    return int(server.rows(f"SELECT count(*) FROM {INCOMING}")[0][0])


def _columns_now(
    server: Session, table: PromotedTable, workload: str, load: str
) -> list[str] | None:
    """All columns that promotions of the table wrote; None where the load was taken back before.

    Raises LookupError where it was never promoted there.
    """
    there = server.rows(
        "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname IN ('_promotions', '_covered_rows', $2)",
        [table.schema, table.table],
    )
    if there[0][0] < 3:
        raise LookupError(load)
    lines = server.rows(
        f"SELECT bool_or(rolled_back_at IS NULL) FROM {table.promotions} "
        "WHERE table_name = $1 AND workload = $2 AND load = $3 HAVING count(*) > 0",
        [table.table, workload, load],
    )
    if not lines:
        raise LookupError(load)
    if not lines[0][0]:
        return None
    written = server.rows(
        f"SELECT DISTINCT unnest(columns) FROM {table.promotions} WHERE table_name = $1 ORDER BY 1",
        [table.table],
    )
    held = held_columns(server, table)
    return [name for (name,) in written if name in held]
