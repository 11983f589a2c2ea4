"""Promotions into a target of made-up answers, and what a target should then hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from batch_pipeline.rows.query import querying
from batch_pipeline.settings import Settings
from batch_pipeline.targets import Target
from batch_pipeline.targets.face import Planned
from batch_pipeline.warehouse import NotPromotedHereError, Promotion, Rollback

FIELDS = "id VARCHAR, label VARCHAR"
PROVENANCE = "_tier INTEGER, _model VARCHAR, _batch_id VARCHAR, _load VARCHAR"
LOADS = ["2026-01-01", "2026-01-02", "2026-01-03"]


@dataclass(frozen=True)
class Desk:
    """Promotes into a target as the workload `questions`, whose key is `id`."""

    target: Target
    folder: Path

    @property
    def settings(self) -> Settings:
        return replace(Settings.from_environment(), state=self.folder)

    def promote(
        self,
        load: str,
        answers: Sequence[Sequence[Any]],
        fields: str = FIELDS,
        *,
        workload: str = "questions",
        key: str = "id",
        fingerprint: str = "f",
        override_reason: str | None = None,
    ) -> Promotion:
        """Rows of key and fields, as a load of that day."""
        return self.target.promote_rows(
            self.settings,
            workload=workload,
            load=load,
            key=key,
            rows=write_rows(self.folder / "incoming.parquet", load, answers, fields),
            fingerprint=fingerprint,
            override_reason=override_reason,
        )

    def roll_back(
        self, load: str, reason: str = "wrong prompt", by: str = "ada"
    ) -> Rollback | None:
        return self.target.roll_back(
            self.settings, workload="questions", load=load, key="id", reason=reason, by=by
        )

    def roll_back_if_known(self, load: str) -> Rollback | None:
        """None where it was never promoted there, too."""
        try:
            return self.roll_back(load)
        except NotPromotedHereError:
            return None

    def check(
        self,
        columns: Mapping[str, str],
        *,
        workload: str = "questions",
        key: str = "id",
        keys: Sequence[str] = ("a",),
    ) -> None:
        provenance = dict(part.split() for part in PROVENANCE.split(", "))
        with querying(self.folder / "tmp") as connection:
            connection.execute(f'CREATE OR REPLACE TEMP TABLE source ("{key}" VARCHAR)')
            connection.executemany("INSERT INTO source VALUES (?)", [[one] for one in keys])
            self.target.check(
                self.settings,
                connection,
                Planned(workload, key, {**columns, **provenance}, "source"),
            )


def write_rows(file: Path, load: str, answers: Sequence[Sequence[Any]], fields: str) -> Path:
    """A load's promoted.parquet."""
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({fields}, {PROVENANCE})")
        if answers:
            marks = ", ".join("?" for _ in [*answers[0], *PROVENANCE.split(",")])
            connection.executemany(
                f"INSERT INTO t VALUES ({marks})", [[*one, 0, "m", "b", load] for one in answers]
            )
        connection.execute(f"COPY t TO '{file}' (FORMAT parquet)")
    return file


@dataclass
class Model:
    """What a target holds: the rows of each load that is promoted now, and no more."""

    loads: dict[str, dict[str, str]] = field(default_factory=dict)

    def promote(self, load: str, answers: Mapping[str, str]) -> None:
        self.loads[load] = dict(answers)

    def roll_back(self, load: str) -> Rollback | None:
        """Its counts, with no table."""
        mine = self.loads.pop(load, None)
        if mine is None:
            return None
        newer = {k for other, rows in self.loads.items() if other > load for k in rows}
        older = {k for other, rows in self.loads.items() if other < load for k in rows}
        owned = mine.keys() - newer
        return Rollback(
            "", len(mine), len(owned - older), len(owned & older), len(mine.keys() & newer)
        )

    @property
    def table(self) -> list[tuple[str, str, str]]:
        """(key, label, load), by key."""
        newest: dict[str, tuple[str, str, str]] = {}
        for load in sorted(self.loads):
            newest |= {key: (key, label, load) for key, label in self.loads[load].items()}
        return [newest[key] for key in sorted(newest)]
