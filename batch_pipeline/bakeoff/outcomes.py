"""What a bake-off showed: every golden row of every candidate, graded and priced, against what counts for the workload."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from statistics import median

import duckdb

from batch_pipeline.bakeoff.candidates import Bakeoff, bakeoff_path, model_of
from batch_pipeline.claude.prices import load_prices, register_prices, require_prices, spend_sql
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger.records import Baseline
from batch_pipeline.measure.bakeoff import Accepted, Ranking, RowOutcome, rank
from batch_pipeline.measure.golden import golden_set, grade_rows
from batch_pipeline.rows import shared
from batch_pipeline.rows.query import querying
from batch_pipeline.stages.api_reasons import said_of_several
from batch_pipeline.stages.baseline import is_readable, outcomes
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.load_tables import load_answers, load_tables
from batch_pipeline.stages.states import POLICY, Policy
from batch_pipeline.warehouse.history import nights

# As many nights as the report shows.
_NIGHTS = 30


@dataclass(frozen=True)
class BakeoffResult:
    """The ranking, what it was held against, and the workload's usual number of rows a load, where known.

    `refusals` are the API's words by model, where it refused requests and said the same of several.
    """

    bakeoff: Bakeoff
    ranking: Ranking
    accepted: Accepted
    baseline: str
    sent_at: datetime
    usual_rows: int | None
    refusals: Mapping[str, str] = field(default_factory=dict)


def bakeoff_result(bakeoff: Bakeoff) -> BakeoffResult:
    """Grades and prices a finished bake-off. Raises ConfigurationError where its rows were purged."""
    if any(candidate.record().purged_at is not None for candidate in bakeoff.candidates):
        raise ConfigurationError(
            f"The rows of the bake-off {bakeoff.bakeoff_id} were purged, so it cannot be graded again; its page is "
            f"{bakeoff_path(bakeoff)}. --again begins another, and pays for it."
        )
    found: list[dict[str, RowOutcome]] = []
    refusals: dict[str, str] = {}
    named = ""
    for candidate in bakeoff.candidates:
        with querying(candidate.scratch) as connection:
            found.append(_outcomes(connection, bakeoff, candidate))
            named = _golden_set(connection, bakeoff)
            why = said_of_several(connection, candidate, candidate.record())
            if why is not None:
                refusals[model_of(candidate)] = why
    keys = sorted(found[0])
    if any(sorted(each) != keys for each in found):
        raise PipelineError(
            f"The files of the bake-off {bakeoff.bakeoff_id} do not hold the same golden rows; restore them from a "
            "backup of the state folder, or begin another with --again."
        )
    accepted, words = _accepted(bakeoff, named, keys)
    return BakeoffResult(
        bakeoff=bakeoff,
        ranking=rank(bakeoff.models, [[each[key] for key in keys] for each in found], accepted),
        accepted=accepted,
        baseline=words,
        sent_at=bakeoff.candidates[0].record().created_at,
        usual_rows=_usual_rows(bakeoff),
        refusals=refusals,
    )


def _outcomes(
    connection: duckdb.DuckDBPyConnection, bakeoff: Bakeoff, candidate: LoadContext
) -> dict[str, RowOutcome]:
    """By key. Costs are what the row's results used, at the batch prices of the day that they were sent."""
    record, spec = candidate.record(), bakeoff.workload.spec
    assert spec.golden is not None
    load_tables(connection, candidate, record)
    # To the candidate they were rows like any other; here they are graded.
    connection.execute("UPDATE rows SET golden = true")
    load_answers(connection, candidate, record, candidate.folder(record))
    connection.execute(
        "CREATE TEMP TABLE golden AS SELECT rows.row, a.* EXCLUDE (_key) FROM read_parquet(?) AS a "
        "JOIN rows ON rows.key = a._key",
        [str(bakeoff.answers)],
    )
    grade_rows(connection, bakeoff.workload.contract, spec.golden.match)
    prices = load_prices(candidate.settings.prices)
    require_prices(connection, "sendings", prices)
    register_prices(connection, record.created_at.date(), batch=True, prices=prices)
    lines = connection.execute(
        f"""
        WITH spent AS (
            SELECT row, sum(usd) AS usd FROM ({spend_sql("sendings")}) GROUP BY row
        )
        SELECT g.key, coalesce(last.outcome, 'unsendable'), g.correct, coalesce(spent.usd, 0),
               coalesce(last.output_tokens, 0)
        FROM golden_outcomes AS g JOIN rows USING (row) LEFT JOIN spent USING (row)
        LEFT JOIN sendings AS last ON last.row = g.row AND last.chunk_id = rows.chunk_id
        """
    ).fetchall()
    return {
        key: RowOutcome(
            outcome=outcome,
            climbs=POLICY.get(outcome) is Policy.CLIMB,
            correct=correct,
            usd=Decimal(usd),
            output_tokens=tokens,
        )
        for key, outcome, correct, usd, tokens in lines
    }


def _golden_set(connection: duckdb.DuckDBPyConnection, bakeoff: Bakeoff) -> str:
    """As a load's golden set is named, so that a recorded baseline of the same is known."""
    assert bakeoff.workload.spec.golden is not None
    return golden_set(
        connection,
        sorted(bakeoff.workload.prompt.columns),
        bakeoff.workload.spec.golden.match,
    )


def _accepted(bakeoff: Bakeoff, named: str, keys: list[str]) -> tuple[Accepted, str]:
    """The recorded baseline where it is of the same golden rows, else the declared share; and which it is."""
    spec, settings = bakeoff.workload.spec, bakeoff.candidates[0].settings
    assert spec.golden is not None
    points, least = spec.gates.golden_drop_points, spec.gates.min_validity
    declared = Accepted(Fraction(spec.golden.baseline), points, least)
    share = f"the declared {float(spec.golden.baseline):.1%}"
    recorded: Baseline | None = bakeoff.candidates[0].ledger.baseline(bakeoff.workload.name)
    if recorded is None:
        return declared, f"{share}; none is recorded, so nothing is compared row by row"
    path = outcomes(shared(settings), recorded)
    when = f"the baseline recorded on {recorded.recorded_at:%Y-%m-%d}"
    if recorded.golden_fingerprint != named:
        return declared, f"{share}; {when} is of another golden set"
    if not is_readable(path):
        return declared, f"{share}; the rows of {when} are lost"
    with querying(bakeoff.candidates[0].scratch) as connection:
        rows = dict(
            connection.execute("SELECT key, correct FROM read_parquet(?)", [str(path)]).fetchall()
        )
    if sorted(rows) != keys:
        return declared, f"{share}; {when} is of other rows"
    accepted = Accepted(
        Fraction(recorded.correct, recorded.n), points, least, [rows[key] for key in keys]
    )
    return accepted, f"{when}, {recorded.correct} of {recorded.n} right, row by row"


def _usual_rows(bakeoff: Bakeoff) -> int | None:
    """The median of the last graded loads' source rows."""
    graded = [
        night.measures["source_rows"].value
        for night in nights(bakeoff.candidates[0].settings, bakeoff.workload.name)
        if not night.cancelled and "source_rows" in night.measures
    ]
    known = [value for value in graded[-_NIGHTS:] if value]
    return round(median(known)) if known else None
