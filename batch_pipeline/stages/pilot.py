"""The pilot: the golden rows and a few others go first, and the rest only once they have passed.

What the API refuses shows only when a whole batch has ended, and what a model makes of a prompt only when it
has answered: both then cost a pilot, not a night. It ends the load's prefix in the cache, too.
"""

from dataclasses import dataclass

import duckdb

from batch_pipeline.ledger import Load
from batch_pipeline.measure.gate import refused_golden
from batch_pipeline.measure.golden import GoldenScore
from batch_pipeline.stages.api_reasons import said_of_several
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.load_tables import load_answers, load_tables
from batch_pipeline.stages.scorecard import graded
from batch_pipeline.workload.spec import PilotSpec

ROWS = 200
ABOVE_ROWS = 10_000
# Where no validity is declared: fewer good answers than this are no night's work.
LEAST_VALIDITY = 0.5
# A pilot stops a night only for a validity that is no chance; one that is just below the line is the gate's to judge.
_ALPHA = 0.05


@dataclass(frozen=True)
class PilotResult:
    """What a pilot showed; `problems` are sentences, and none means that it passed."""

    rows: int
    judged: int
    valid: int
    refused: int
    golden: GoldenScore | None
    problems: tuple[str, ...]

    @property
    def advice(self) -> str:
        """What to do where it did not pass."""
        first = (
            "mend the prompt or the contract and send the load again with --resend"
            if self.judged
            else "send the load again with --resend when the API answers"
        )
        return (
            f"The rest was not sent: {first}, or set `pilot: false` to send the rest all the same."
        )

    @property
    def sentence(self) -> str:
        """What it showed, whether it passed or not."""
        if self.problems:
            return f"the pilot of {self.rows:,} rows did not pass: {'; '.join(self.problems)}"
        golden = f", golden score {self.golden.correct} of {self.golden.n}" if self.golden else ""
        return f"the pilot of {self.rows:,} rows passed: {self.valid:,} of {self.judged:,} answers are valid{golden}"


def pilot_rows(context: LoadContext, record: Load) -> int:
    """How many source rows the load's pilot has beside the golden ones; 0 where it has none."""
    declared = context.workload.spec.pilot
    if declared is False:
        return 0
    if declared is None:
        return ROWS if record.source_rows > ABOVE_ROWS else 0
    assert isinstance(declared, PilotSpec)
    return declared.rows if record.source_rows > declared.rows else 0


def under_way(context: LoadContext, record: Load) -> bool:
    """Whether the load's rows wait for its pilot to pass."""
    return (
        record.pilot_passed_at is None and not record.cancelled and pilot_rows(context, record) > 0
    )


def withhold_the_rest(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> bool:
    """Takes all but the pilot out of what is due in `states`; whether every row of the pilot is closed.

    The pilot is drawn by the rows' positions alone, so that it is the same however often it is drawn.
    """
    _draw(connection, context, record, "states")
    connection.execute(
        "UPDATE states SET next_tier = NULL, next_attempt = NULL "
        # A row that asks the same as one of the pilot has travelled with it, and is of it from then on.
        "WHERE next_tier IS NOT NULL AND sending IS NULL AND row NOT IN (SELECT row FROM pilot)"
    )
    (still_open,) = connection.execute(
        "SELECT count(*) FROM states WHERE disposition IS NULL "
        "AND (sending IS NOT NULL OR row IN (SELECT row FROM pilot))"
    ).fetchall()[0]
    return not still_open


def _draw(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load, table: str
) -> None:
    """Makes the temporary table `pilot`: the rows of it, golden ones too, drawn from `states` or `rows`."""
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE pilot AS
        SELECT row FROM {table} WHERE golden
        UNION ALL
        (SELECT row FROM {table} WHERE NOT golden AND attempt IS DISTINCT FROM 0  -- 0: an earlier load's answer
         ORDER BY md5_number(concat(row, '|', $load)), row LIMIT {pilot_rows(context, record)})
        """,
        {"load": f"{record.workload}|{record.load}"},
    )


def judge_pilot(context: LoadContext, record: Load) -> PilotResult:
    """What the rows that were sent so far show: the pilot's, once all of them are closed."""
    spec = context.workload.spec
    with context.querying() as connection:
        load_tables(connection, context, record)
        load_answers(connection, context, record, context.folder(record))
        _draw(connection, context, record, "rows")
        rows, judged, valid, refused, mostly = connection.execute(
            # Expired ones are sent again: an answer or a refusal comes once for each row.
            # Rows that travelled with one of the pilot's are no sample of the load.
            "SELECT count(DISTINCT row), "
            "count(*) FILTER (result = 'succeeded' OR outcome = 'invalid_request'), "
            "count(*) FILTER (outcome = 'valid'), count(*) FILTER (outcome = 'invalid_request'), "
            "mode(outcome) "
            "FROM sendings SEMI JOIN pilot USING (row) WHERE NOT golden AND tier = 0"
        ).fetchall()[0]
        golden = graded(connection, context, record) if spec.golden and record.golden_rows else None
        why = said_of_several(connection, context, record) if refused else None
    least = spec.gates.min_validity
    least_share = float(LEAST_VALIDITY if least is None else least)
    if judged:
        said = _validity(judged, valid, refused, least_share, why)
    else:
        said = f"not one of its rows was answered ({mostly or 'none could be sent'})"
    held = None if golden is None else refused_golden(golden, spec.gates)
    return PilotResult(
        rows, judged, valid, refused, golden, tuple(each for each in (said, held) if each)
    )


def _validity(judged: int, valid: int, refused: int, least: float, why: str | None) -> str | None:
    # The whole of scipy.stats takes seconds to import.
    from scipy.special import bdtr

    # One-sided: how likely so few are valid where the share is just what is asked for.
    if valid >= least * judged or bdtr(valid, judged, least) >= _ALPHA:
        return None
    of_which = f"; the API refused {refused:,} as invalid requests" if refused else ""
    of_which += f" ({why})" if why else ""
    return f"{valid:,} of {judged:,} answers are valid, and {least:.0%} are asked for{of_which}"
