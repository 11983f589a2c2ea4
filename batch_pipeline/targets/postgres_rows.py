"""The rows of one load in a promoted table of Postgres: written, and taken back.

The table and the covered rows together hold every row of every load that is promoted now, so that any of them can be
replaced or taken back, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

from batch_pipeline.errors import PipelineError
from batch_pipeline.postgres.session import Session
from batch_pipeline.rows.query import quoted
from batch_pipeline.targets.postgres_table import PromotedTable
from batch_pipeline.workload.data_file import literal

# The temporary table that the load's rows are streamed into.
INCOMING = "_incoming"
_GONE, _BACK = "_gone", "_back"


class LoadRows:
    """What one promotion or rollback does to the table and the covered rows, in its transaction.

    Rows of others are met by key; `_load` says whose they are, and its order which of them is newer.
    """

    def __init__(
        self,
        server: Session,
        table: PromotedTable,
        key: str,
        load: str,
        columns: Sequence[str],
        former: Sequence[str] = (),
    ) -> None:
        """`columns` are the load's; `former`, those that only earlier promotions of the table wrote."""
        self._server, self._table = server, table
        # A statement with parameters does not say how many rows it wrote. A load is a checked date.
        self._load, self._name = literal(load), literal(table.table)
        self._key = quoted(key)
        self._names = list(columns)
        self._columns = [quoted(name) for name in columns]
        self._former = [quoted(name) for name in former]
        self._all = [*self._columns, *self._former]

    def replace_rows(self) -> tuple[int, int, int]:
        """Makes the load's rows those of the table of incoming ones: written, removed and superseded ones."""
        run, t, k, load = self._server.run, self._table.sql, self._key, self._load
        met = f"FROM {t} AS t JOIN {INCOMING} AS i ON t.{k} = i.{k}"
        strange, superseded = self._server.rows(
            f"SELECT count(*) FILTER (WHERE t._load IS NULL), count(*) FILTER (WHERE t._load > {load}) {met}"
        )[0]
        if strange:
            raise PipelineError(
                f"{self._table} in {self._server.where} has {strange:,} rows with a key of the load that no load "
                "promoted (their _load is null); remove them, or promote into another table."
            )
        self._gone(f"AND NOT EXISTS (SELECT FROM {INCOMING} AS i WHERE i.{k} = t.{k})")
        # Of the load's own rows, those that newer loads cover.
        covered = f"FROM {self._table.covered} WHERE table_name = {self._name} AND load = {load}"
        run(
            f"DELETE {covered} AND key NOT IN (SELECT i.{k}::text FROM {INCOMING} AS i JOIN {t} AS t "
            f"ON t.{k} = i.{k} WHERE t._load > {load})"
        )
        self._keep(load, "to_jsonb(i)", f"{met} WHERE t._load > {load}")
        self._keep("t._load", "to_jsonb(t)", f"{met} WHERE t._load < {load}")
        new = {name: f"i.{name}" for name in self._columns if name != k}
        new |= dict.fromkeys(self._former, "NULL")
        changed = " OR ".join(f"t.{name} IS DISTINCT FROM {value}" for name, value in new.items())
        sets = ", ".join(f"{name} = {value}" for name, value in new.items())
        written = run(
            f"UPDATE {t} AS t SET {sets} FROM {INCOMING} AS i "
            f"WHERE t.{k} = i.{k} AND t._load <= {load} AND ({changed})"
        )
        names = ", ".join(self._columns)
        written += run(
            f"INSERT INTO {t} ({names}) SELECT {names} FROM {INCOMING} AS i "
            f"WHERE NOT EXISTS (SELECT FROM {t} AS t WHERE t.{k} = i.{k})"
        )
        removed, _ = self._bring_back()
        return written, removed, int(superseded)

    def take_back(self) -> tuple[int, int, int]:
        """Takes all rows of the load out: those it owned, those of them restored, and those it did not own."""
        self._gone("")
        owned, restored = self._bring_back()
        kept = self._server.run(
            f"DELETE FROM {self._table.covered} WHERE table_name = {self._name} AND load = {self._load}"
        )
        return owned, restored, kept

    def enter(
        self, workload: str, fingerprint: str, rows: int, override_reason: str | None
    ) -> None:
        """Enters each set of rows once in the history, and once more after it was rolled back."""
        names = ", ".join(literal(name) for name in self._names)
        self._server.run(
            f"INSERT INTO {self._table.promotions} (table_name, workload, load, fingerprint, rows, override_reason, "
            f"columns, promoted_at) SELECT {self._name}, $1, {self._load}, $2, {rows}, $3, ARRAY[{names}], "
            f"clock_timestamp() WHERE NOT EXISTS (SELECT FROM {self._table.promotions} WHERE "
            f"table_name = {self._name} AND load = {self._load} AND fingerprint = $2 AND rolled_back_at IS NULL)",
            [workload, fingerprint, clean(override_reason)],
        )

    def _gone(self, which: str) -> None:
        """The load's rows that are to go, by key."""
        self._server.run(
            f"CREATE TEMP TABLE {_GONE} ON COMMIT DROP AS SELECT t.{self._key} AS key, t.{self._key}::text AS text "
            f"FROM {self._table.sql} AS t WHERE t._load = {self._load} {which}"
        )

    def _keep(self, load: str, row: str, met: str) -> None:
        # Nothing is written where nothing changed.
        self._server.run(
            f"INSERT INTO {self._table.covered} AS c (table_name, load, key, row) "
            f"SELECT {self._name}, {load}, t.{self._key}::text, {row} {met} "
            "ON CONFLICT (table_name, key, load) DO UPDATE SET row = excluded.row WHERE c.row IS DISTINCT FROM "
            "excluded.row"
        )

    def _bring_back(self) -> tuple[int, int]:
        """Gives each key that is gone the newest row that was covered, or removes it: how many there were, and had one."""
        run, t, k = self._server.run, self._table.sql, self._key
        gone = int(self._server.rows(f"SELECT count(*) FROM {_GONE}")[0][0])
        if not gone:
            return 0, 0
        run(
            f"CREATE TEMP TABLE {_BACK} ON COMMIT DROP AS SELECT DISTINCT ON (c.key) g.key AS k, c.key, c.load, c.row "
            f"FROM {self._table.covered} AS c JOIN {_GONE} AS g ON c.key = g.text "
            f"WHERE c.table_name = {self._name} AND c.load <> {self._load} ORDER BY c.key, c.load DESC"
        )
        restored = int(self._server.rows(f"SELECT count(*) FROM {_BACK}")[0][0])
        sets = ", ".join(f"{name} = r.{name}" for name in self._all)
        run(
            f"UPDATE {t} AS t SET {sets} FROM {_BACK} AS b, "
            f"jsonb_populate_record(NULL::{t}, b.row) AS r WHERE t.{k} = b.k"
        )
        run(
            f"DELETE FROM {self._table.covered} AS c USING {_BACK} AS b "
            f"WHERE c.table_name = {self._name} AND c.key = b.key AND c.load = b.load"
        )
        run(
            f"DELETE FROM {t} AS t USING {_GONE} AS g WHERE t.{k} = g.key "
            f"AND NOT EXISTS (SELECT FROM {_BACK} AS b WHERE b.key = g.text)"
        )
        return gone, restored


def clean(text: str | None) -> str | None:
    """As Postgres's text can hold it."""
    return None if text is None else text.replace("\0", "\ufffd")
