"""Takes a reviewed file in: all of its decisions, or, where a line cannot stand, none.

The decisions are replaced as a whole before the ledger hears of the file, so an import that was cut off is
completed by doing it again.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from batch_pipeline.ledger import Load
from batch_pipeline.ledger.reviewing import ReviewImport
from batch_pipeline.ledger.transactions import now
from batch_pipeline.review.file import Rejected, ReviewFile, sha256_of
from batch_pipeline.review.golden import GoldenAdded, add_to_golden, open_golden_csv
from batch_pipeline.review.judge import judge_file
from batch_pipeline.review.queue import LoadName, open_queue, require_reviewable
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.decisions import decisions, promoted_as_decided
from batch_pipeline.workload.data_file import literal


@dataclass
class Intake:
    """What became of a file.

    Attributes:
        accepted, fixed, dropped: the decisions in it.
        changed: rows whose decision is another one than before.
        rejected: lines that cannot stand; nothing was taken in where there are any.
        before: the import of the very same file, which this one left alone.
        golden: what was added to the golden set, where that was asked for.
        promoted_as_decided: whether what the load promoted holds these decisions.
    """

    accepted: int = 0
    fixed: int = 0
    dropped: int = 0
    changed: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    before: ReviewImport | None = None
    golden: GoldenAdded | None = None
    promoted_as_decided: bool = False

    @property
    def decided(self) -> int:
        return self.accepted + self.fixed + self.dropped


def take_in(context: LoadContext, path: Path, *, by: str, golden: bool = False) -> Intake:
    """Applies the decisions of a review file. The same file again changes nothing; of two files, the later stands.

    Args:
        context: the load that the file is of.
        path: the CSV file.
        by: who imports it; recorded, and the reviewer of lines that name none.
        golden: whether answers that were accepted or fixed go into the workload's golden file, too.

    Raises:
        ConfigurationError: the file is of another load, has no such column or cannot be read; the load has no queue
            or its declaration changed; there is no golden file that could be added to.
        PipelineError: the load's rows were purged, or another process works on it.
    """
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        folder = context.folder(record)
        require_reviewable(context, record)
        sha256 = sha256_of(path)
        file = ReviewFile(
            path,
            LoadName(record.workload, record.load, record.generation),
            context.workload.contract,
        )
        with context.querying() as connection, _working(folder) as work:
            if golden:
                # Before anything is changed, since it may be unreadable.
                open_golden_csv(connection, context.workload)
            open_queue(connection, context, record)
            rejected = judge_file(connection, context, file, work)
            if rejected:
                return Intake(rejected=rejected)
            intake = _counted(connection)
            known = [
                each for each in context.ledger.review_imports(record) if each.sha256 == sha256
            ]
            intake.before = known[0] if known else None
            if intake.decided and intake.before is None:
                intake.changed = _merge(connection, context, folder, by)
                _record(context, record, sha256, intake, by)
            if golden and intake.decided:
                intake.golden = add_to_golden(connection, context, record)
            intake.promoted_as_decided = promoted_as_decided(connection, record, folder)
            return intake


@contextmanager
def _working(folder: LoadFolder) -> Iterator[Path]:
    """A folder among the load's rows, so that what a crash leaves of them goes with them."""
    shutil.rmtree(folder.review, ignore_errors=True)
    folder.review.mkdir(parents=True)
    try:
        yield folder.review
    finally:
        shutil.rmtree(folder.review, ignore_errors=True)


def _counted(connection: duckdb.DuckDBPyConnection) -> Intake:
    counts = dict(
        connection.execute("SELECT decision, count(*) FROM incoming GROUP BY decision").fetchall()
    )
    return Intake(counts.get("accept", 0), counts.get("fix", 0), counts.get("drop", 0))


def _merge(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, folder: LoadFolder, by: str
) -> int:
    """Replaces decisions.parquet by itself and `incoming`; returns how many rows are decided otherwise than before."""
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE merged AS
        SELECT row, new.row IS NOT NULL AS came, old.row IS NOT NULL
                   AND old.decision = new.decision AND old.fields IS NOT DISTINCT FROM new.fields AS same,
               CASE WHEN came THEN new.decision ELSE old.decision END AS decision,
               CASE WHEN came THEN new.fields ELSE old.fields END AS fields,
               CASE WHEN came THEN new.kept ELSE old.kept END AS kept,
               CASE WHEN came THEN new.note ELSE old.note END AS note,
               CASE WHEN came THEN coalesce(new.reviewer, $by) ELSE old.reviewer END AS reviewer,
               -- Saying the same again takes no longer.
               CASE WHEN came AND NOT same THEN $moment ELSE old.decided_at END AS decided_at
        FROM incoming AS new FULL JOIN {decisions(folder, context.workload.contract)} AS old USING (row)
        """,
        {"by": by, "moment": now().replace(tzinfo=None)},
    )
    with replacing(folder.decisions) as path:
        connection.execute(
            "COPY (SELECT row, decision, fields, kept, note, reviewer, decided_at FROM merged ORDER BY row) "
            f"TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)"
        )
    changed = connection.execute("SELECT count(*) FROM merged WHERE came AND NOT same").fetchall()
    return int(changed[0][0])


def _record(context: LoadContext, record: Load, sha256: str, intake: Intake, by: str) -> None:
    context.ledger.record_review_import(
        record,
        sha256=sha256,
        accepted=intake.accepted,
        fixed=intake.fixed,
        dropped=intake.dropped,
        imported_by=by,
    )
