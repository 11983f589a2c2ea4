"""escalated_rows: decides what comes next for every row, and sends the next wave where there is one."""

from collections.abc import Callable
from dataclasses import dataclass

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.stages.chunks import SendSummary
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.submit import send_due


@dataclass
class EscalateSummary:
    """Where the load stands after the decision: rows by disposition (golden included), and what was sent."""

    sent: SendSummary
    dispositions: dict[str, int]
    open_rows: int
    climbing: int


def escalate(
    context: LoadContext,
    api: Callable[[], BatchesApi],
    on_batch: Callable[[SendSummary], None] = lambda _: None,
) -> EscalateSummary:
    """Sends whatever the verdicts ask for. Raises as `send_pending`."""
    with context.querying() as connection:
        sent = send_due(connection, context, api, on_batch)
        counts = dict(
            connection.execute(
                "SELECT coalesce(disposition, 'open'), count(*) FROM states GROUP BY ALL"
            ).fetchall()
        )
        climbing = connection.execute(
            "SELECT count(*) FROM states WHERE disposition IS NULL AND tier > 0"
        ).fetchall()[0][0]
    return EscalateSummary(
        sent=sent,
        dispositions={
            name: counts.get(name, 0) for name in ("validated", "quarantined", "human_review")
        },
        open_rows=counts.get("open", 0),
        climbing=climbing,
    )
