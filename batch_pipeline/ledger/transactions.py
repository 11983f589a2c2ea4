"""What every part of the ledger is made of: reads, and writes of one transaction each."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine


def now() -> datetime:
    return datetime.now(UTC)


class Transactions:
    """Statements against the ledger's engine."""

    _engine: Engine

    def _write(self, *statements: Any) -> int:
        """One transaction; how many rows the first statement changed. The others follow only if it did."""
        with self._engine.begin() as connection:
            first, *others = statements
            changed = connection.execute(first).rowcount
            if changed:
                for statement in others:
                    connection.execute(statement)
        return changed

    def _first(self, query: Any) -> dict[str, Any] | None:
        rows = self._all(query)
        return rows[0] if rows else None

    def _all(self, query: Any) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]
