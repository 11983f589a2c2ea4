"""Review files that went out and came back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from batch_pipeline.ledger.records import Load
from batch_pipeline.ledger.tables import review_exports, review_imports
from batch_pipeline.ledger.transactions import Transactions, now


@dataclass(frozen=True)
class ReviewExport:
    """A review file that was written: `rows` of the queue, and who asked for it."""

    workload: str
    load: str
    generation: int
    exported_at: datetime
    rows: int
    exported_by: str


@dataclass(frozen=True)
class ReviewImport:
    """A review file that was taken in: its sha256, and how many decisions of each kind it held."""

    workload: str
    load: str
    generation: int
    sha256: str
    accepted: int
    fixed: int
    dropped: int
    imported_by: str
    imported_at: datetime


class Reviewing(Transactions):
    """The part of the ledger that the review queue writes."""

    def record_review_export(self, load: Load, *, rows: int, exported_by: str) -> None:
        self._write(
            self._upsert(review_exports)
            .values(**_of(load), exported_at=now(), rows=rows, exported_by=exported_by)
            .on_conflict_do_nothing()
        )

    def record_review_import(
        self,
        load: Load,
        *,
        sha256: str,
        accepted: int,
        fixed: int,
        dropped: int,
        imported_by: str,
    ) -> None:
        """The first import of a file stands; again, it changes nothing."""
        self._write(
            self._upsert(review_imports)
            .values(
                **_of(load),
                sha256=sha256,
                accepted=accepted,
                fixed=fixed,
                dropped=dropped,
                imported_by=imported_by,
                imported_at=now(),
            )
            .on_conflict_do_nothing()
        )

    def review_exports(self, load: Load) -> list[ReviewExport]:
        """The oldest first."""
        query = select(review_exports).where(*_same(review_exports, load))
        return [
            ReviewExport(**row) for row in self._all(query.order_by(review_exports.c.exported_at))
        ]

    def review_imports(self, load: Load) -> list[ReviewImport]:
        """The oldest first."""
        query = select(review_imports).where(*_same(review_imports, load))
        return [
            ReviewImport(**row) for row in self._all(query.order_by(review_imports.c.imported_at))
        ]


def _of(load: Load) -> dict[str, Any]:
    return {"workload": load.workload, "load": load.load, "generation": load.generation}


def _same(table: Any, load: Load) -> tuple[Any, ...]:
    return tuple(table.c[name] == value for name, value in _of(load).items())
