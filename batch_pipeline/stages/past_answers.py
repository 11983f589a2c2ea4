"""What answered requests teach about the next ones: answer lengths, rows that climb, prefixes found in the cache.

Of earlier loads under the same declaration, or of a load's own pilot. Read from the results and verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import duckdb

from batch_pipeline.ledger import Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.measure.caching import Hits
from batch_pipeline.measure.estimate import MeanInterval, mean_interval, share_of
from batch_pipeline.measure.tokens import tokens_per_byte
from batch_pipeline.rows import LoadFolder
from batch_pipeline.rows.folder import present
from batch_pipeline.rows.query import quoted, read_parquets
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.load_tables import RESULT_COLUMNS
from batch_pipeline.stages.source_columns import GOLDEN, ROW
from batch_pipeline.stages.states import POLICY, Policy, live_chunks
from batch_pipeline.stages.token_sample import bytes_of
from batch_pipeline.workload.data_file import literal

MOST_LOADS = 7
# With fewer loads there is no telling how much they differ.
_LEAST_LOADS = 3
_Z = 1.959963984540054  # 97.5% of the normal distribution
_CLIMBING = ", ".join(f"'{outcome}'" for outcome, what in POLICY.items() if what is Policy.CLIMB)
# What was paid for: of refusals only those after some output; rows that another one carried have no tokens.
_BILLED = """result = 'succeeded' AND NOT (stop_reason = 'refusal' AND coalesce(answer, '') = '')
  AND input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens > 0"""


@dataclass(frozen=True)
class PastAnswers:
    """Measured on `loads` loads; 0 for none, and then nothing is known.

    output: tokens of an answer, by tier. input: all input tokens of a request of tier 0. escalation: share of
    requests of tier 0 whose rows climbed. paid_again: billed requests beyond the first of their row and tier, as
    a share of all.
    """

    loads: int = 0
    output: dict[int, MeanInterval] = field(default_factory=dict)
    input: MeanInterval | None = None
    escalation: MeanInterval | None = None
    hits: Hits | None = None
    paid_again: Decimal = Decimal(0)


def earlier_answers(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    now: Load,
    *,
    with_own: bool = False,
) -> PastAnswers:
    """Of the newest loads with the same prompt, contract and tiers that are settled and still have their rows.

    `with_own`: and of `now` itself, by what it has had answered so far.
    """
    earlier = [
        load
        for load in context.ledger.generations(now.workload)
        if load.fingerprint == context.workload.fingerprint()
        and load.purged_at is None
        and (
            with_own
            if (load.load, load.generation) == (now.load, now.generation)
            else load.phase is Phase.SETTLED
        )
    ]
    earlier.sort(key=lambda load: load.created_at, reverse=True)
    measured = []
    for load in earlier[:MOST_LOADS]:
        folder = LoadFolder.configured(context.settings, load.workload, load.load, load.generation)
        found = _read(connection, context, load, folder, population=None)
        if found is not None:
            measured.append(found)
    return _over_loads(measured) if measured else PastAnswers()


def own_answers(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> PastAnswers:
    """Of what the load itself has had answered so far."""
    population = record.source_rows + record.golden_rows
    found = _read(connection, context, record, context.folder(record), population=population)
    if found is None:
        return PastAnswers()
    answers = found.answers
    if answers.input is None:
        return answers
    return replace(answers, input=_of_all_bytes(connection, context, record, answers.input))


def _of_all_bytes(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    input_tokens: MeanInterval,
) -> MeanInterval:
    """The mean of the answered requests, moved by what the bytes of all rows say: a few may be long, and unasked."""
    columns = context.workload.prompt.columns
    source = f"read_parquet({literal(str(context.folder(record).source))})"
    same = f"hash({', '.join(map(quoted, columns))})" if context.workload.spec.dedupe else ROW
    of_all, of_answered = connection.execute(
        f"""
        SELECT avg(size), avg(size) FILTER (answered) FROM (
            SELECT any_value({bytes_of(columns)}) AS size,
                   bool_or({ROW} IN (SELECT row FROM _billed WHERE tier = 0)) AS answered
            FROM {source} GROUP BY {same}, CASE WHEN {GOLDEN} THEN {ROW} END)
        """
    ).fetchall()[0]
    if of_answered is None:
        return input_tokens
    more = of_all - of_answered
    each = tokens_per_byte(context.workload.spec.tiers[0].model)
    most = (each.high if more > 0 else each.low) * more
    return MeanInterval(
        max(input_tokens.mean + each.mean * more, 0.0),
        max(input_tokens.low + min(each.mean * more, 0.0), 0.0),
        max(input_tokens.high + most, 0.0),
    )


@dataclass(frozen=True)
class _Counted:
    """One load's answers, with the sums behind them."""

    answers: PastAnswers
    climbed: int
    judged: int
    reads: int
    writes: int
    again: int
    billed: int


def _read(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    load: Load,
    folder: LoadFolder,
    *,
    population: int | None,
) -> _Counted | None:
    """`population` is how many requests the answers are a sample of; None where they are all."""
    chunks = live_chunks(context.ledger.chunks(load))
    paths = [folder.results(chunk.chunk_id) for chunk in chunks]
    results = read_parquets(present(paths), RESULT_COLUMNS)
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW _billed AS SELECT * FROM {results} WHERE {_BILLED}"
    )
    lines = connection.execute(
        """
        SELECT tier, count(*), avg(output_tokens), coalesce(stddev_samp(output_tokens), 0),
               avg(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens),
               coalesce(stddev_samp(input_tokens + cache_read_tokens + cache_write_5m_tokens
                                    + cache_write_1h_tokens), 0),
               sum(cache_read_tokens), sum(cache_write_5m_tokens + cache_write_1h_tokens),
               count(*) - count(DISTINCT row)
        FROM _billed GROUP BY tier ORDER BY tier
        """
    ).fetchall()
    if not lines:
        return None
    verdicts = [folder.verdicts(chunk.chunk_id) for chunk in chunks]
    judged = read_parquets(
        present(verdicts),
        {"row": "BIGINT", "chunk_id": "VARCHAR", "outcome": "VARCHAR"},
    )
    climbed, of = connection.execute(
        f"SELECT count(*) FILTER (outcome IN ({_CLIMBING})), count(*) FROM _billed JOIN {judged} AS v "
        f"USING (row, chunk_id) WHERE tier = 0 AND outcome IN ('valid', {_CLIMBING})"
    ).fetchall()[0]
    reads, writes = sum(line[6] for line in lines), sum(line[7] for line in lines)
    first = lines[0]
    answers = PastAnswers(
        loads=1,
        output={line[0]: _interval(line[1], line[2], line[3], population) for line in lines},
        input=_interval(first[1], first[4], first[5], population) if first[0] == 0 else None,
        escalation=_share(climbed, of),
        hits=_hits(reads, writes),
    )
    again, billed = sum(line[8] for line in lines), sum(line[1] for line in lines)
    return _Counted(answers, climbed, of, int(reads), int(writes), again, billed)


def _over_loads(measured: Sequence[_Counted]) -> PastAnswers:
    """The next load's mean, with bounds from how much the loads differ."""
    tiers = sorted({tier for each in measured for tier in each.answers.output})
    return PastAnswers(
        loads=len(measured),
        output={
            tier: _next([e.answers.output[tier].mean for e in measured if tier in e.answers.output])
            for tier in tiers
        },
        escalation=_escalation_of(measured),
        hits=_hits(sum(e.reads for e in measured), sum(e.writes for e in measured)),
        paid_again=share_of(sum(e.again for e in measured), sum(e.billed for e in measured)),
    )


def _next(means: Sequence[float]) -> MeanInterval:
    """The 95% prediction interval for one more load, at least to the highest; wide after fewer than three."""
    mean = sum(means) / len(means)
    if len(means) < _LEAST_LOADS:
        return MeanInterval(mean, mean / 1.5, max(means) * 1.5)
    from scipy.special import stdtrit

    n = len(means)
    spread = (sum((each - mean) ** 2 for each in means) / (n - 1)) ** 0.5
    half = float(stdtrit(n - 1, 0.975)) * spread * (1 + 1 / n) ** 0.5
    return MeanInterval(mean, max(mean - half, 0.0), max(mean + half, *means))


def _escalation_of(measured: Sequence[_Counted]) -> MeanInterval | None:
    pooled = _share(sum(e.climbed for e in measured), sum(e.judged for e in measured))
    shares = [e.climbed / e.judged for e in measured if e.judged]
    if pooled is None or not shares:
        return None
    spread = _next(shares)
    return MeanInterval(
        pooled.mean, min(pooled.low, spread.low), min(max(pooled.high, spread.high), 1.0)
    )


def _interval(n: int, mean: float, spread: float, population: int | None) -> MeanInterval:
    """From sums, as `mean_interval` from values."""
    if population is None or n >= population:
        return MeanInterval(mean, mean, mean)
    if n == 1:
        return mean_interval([mean], population)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975)) * spread / n**0.5
    half *= ((population - n) / (population - 1)) ** 0.5
    return MeanInterval(mean, max(mean - half, 0.0), mean + half)


def _share(part: int, of: int) -> MeanInterval | None:
    """With the interval of Wilson 1927, JASA 22:209, which has a width at 0% and at 100%, too."""
    if not of:
        return None
    share = part / of
    centre = (share + _Z**2 / (2 * of)) / (1 + _Z**2 / of)
    half = _Z / (1 + _Z**2 / of) * (share * (1 - share) / of + _Z**2 / (4 * of**2)) ** 0.5
    return MeanInterval(share, max(0.0, centre - half), min(1.0, centre + half))


def _hits(reads: int, writes: int) -> Hits | None:
    """Of the prefixes that were cached, those that were found; None where caching was not on."""
    return Hits(share_of(reads, reads + writes), measured=True) if reads + writes else None
