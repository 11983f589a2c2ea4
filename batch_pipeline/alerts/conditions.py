"""What is wrong now, as far as the ledger knows: held gates, and what findings say of unfinished loads."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.settings import Settings
from batch_pipeline.stages.findings import Finding, findings

PAGE = "page"
LOG = "log"
LEADING = "leading"
LAGGING = "lagging"

# The ledger's column.
_LONGEST_KEY = 256
# A sensor asks, whose tick must end; without the reasons an alert says less, and says it all the same.
_STORE_SECONDS = 5.0


@dataclass(frozen=True)
class Condition:
    """Something that is wrong now. Two with the same `key` are the same thing, seen twice.

    Attributes:
        kind: leading (something is about to go wrong, or must be decided) or lagging (what has happened).
        severity: page or log.
        link: a page of Dagster's UI, without its host.
    """

    key: str
    workload: str
    load: str | None
    kind: str
    severity: str
    title: str
    sentence: str
    link: str | None = None


def condition_key(*parts: str) -> str:
    """Begins with the source of the condition: gate, sending, check or run."""
    key = ":".join(parts)
    if len(key) <= _LONGEST_KEY:
        return key
    return f"{key[: _LONGEST_KEY - 17]}~{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def ledger_conditions(
    ledger: Ledger, settings: Settings, workloads: Collection[str]
) -> Iterator[Condition]:
    """One per held load, and one per unfinished load and kind of finding, whatever number of batches has it."""
    for record in ledger.held_loads(workloads):
        yield _held(settings, record)
    for workload in workloads:
        for record in ledger.unfinished_loads(workload):
            yield from _sending(record, findings(ledger, record, settings))


def _held(settings: Settings, record: Load) -> Condition:
    # It brings DuckDB and Arrow, and the sensors, the checks and the commands want this module's words alone.
    from batch_pipeline.rows import shared
    from batch_pipeline.rows.hurry import in_a_hurry
    from batch_pipeline.stages.kept_scorecards import kept_scorecard

    try:
        with in_a_hurry(_STORE_SECONDS):
            gate = kept_scorecard(shared(settings), record).gate
    except PipelineError:
        gate = None
    said = gate.sentence if gate and not gate.promote else "The load is held by its gate."
    return Condition(
        key=condition_key("gate", record.workload, record.load, f"g{record.generation}"),
        workload=record.workload,
        load=record.load,
        kind=LEADING,
        severity=PAGE,
        title=f"{record.workload} {record.load} is held by its gate",
        sentence=f"{said} Look at the scorecard; mend the cause and send the load again, or promote it with a "
        "reason: `batch-pipeline promote`.",
        link=asset_link(record.workload, "golden_score", record.load),
    )


def _sending(record: Load, found: list[Finding]) -> Iterator[Condition]:
    kinds: dict[str, list[Finding]] = {}
    for finding in found:
        kinds.setdefault(finding.topic, []).append(finding)
    for topic, alike in kinds.items():
        worst = max(alike, key=lambda finding: finding.page)
        rest = len(alike) - 1
        yield Condition(
            key=condition_key(
                "sending", record.workload, record.load, f"g{record.generation}", topic
            ),
            workload=record.workload,
            load=record.load,
            kind=LEADING,
            severity=PAGE if worst.page else LOG,
            title=f"{record.workload} {record.load}: {_TITLES[topic]}",
            sentence=worst.sentence + (f" And {rest} more like it." if rest else ""),
            link=asset_link(record.workload, "batch_submission", record.load),
        )


def asset_link(workload: str, step: str, load: str | None) -> str:
    partition = f"?partition={load}" if load else ""
    return f"assets/{workload}/{step}{partition}"


_TITLES = {
    "stopped": "sending has stopped",
    "waits": "sending waits",
    "lost_answer": "a lost answer is looked for",
    "paid_twice": "rows were paid twice",
    "uncollected": "results that were not read back will be deleted",
    "overdue": "a batch has not ended",
    "unknown": "the API does not know a batch",
    "not_taken": "results cannot be read back",
}
