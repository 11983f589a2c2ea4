"""What every part of the ledger is made of: reads, and writes of one transaction each."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table

from batch_pipeline.ledger.home import Home


def now() -> datetime:
    return datetime.now(UTC)


class Transactions:
    """Statements against the ledger's database. Each transaction may be done twice: once before an outage."""

    _home: Home

    def _upsert(self, table: Table) -> Any:
        """An INSERT that can say what to do on conflict."""
        return self._home.insert(table)

    def _write(self, *statements: Any) -> int:
        """One transaction; how many rows the first statement changed. The others follow only if it did."""

        def write() -> int:
            with self._home.engine.begin() as connection:
                first, *others = statements
                changed = connection.execute(first).rowcount
                if changed:
                    for statement in others:
                        connection.execute(statement)
            return changed

        return self._home.patiently(write)

    def _write_all(self, statements: Sequence[Any]) -> None:
        """One transaction."""

        def write() -> None:
            with self._home.engine.begin() as connection:
                for statement in statements:
                    connection.execute(statement)

        self._home.patiently(write)

    def _first(self, query: Any) -> dict[str, Any] | None:
        rows = self._all(query)
        return rows[0] if rows else None

    def _all(self, query: Any) -> list[dict[str, Any]]:
        def read() -> list[dict[str, Any]]:
            with self._home.engine.connect() as connection:
                return [dict(row) for row in connection.execute(query).mappings()]

        return self._home.patiently(read)
