"""The columns of a review file. Of those, an import reads the id, the decision, the fixes, the note and the reviewer."""

from batch_pipeline.workload.contract import Contract

REVIEW_ID, DECISION, NOTE, REVIEWER = "review_id", "decision", "note", "reviewer"
# What is shown to the reviewer and never read back; the prefixes keep the source's names apart from ours.
KEY, REASON, TIER, ANSWER = "key", "reason", "tier", "answer"
INPUT, MODEL, FIXED = "input_", "model_", "fixed_"


def header(contract: Contract, inputs: list[str]) -> list[str]:
    """All columns in their order; `inputs` are the source's columns without its key."""
    return [
        REVIEW_ID,
        KEY,
        REASON,
        TIER,
        *(INPUT + name for name in inputs),
        ANSWER,
        *(MODEL + name for name in contract.names),
        DECISION,
        *fixed_columns(contract),
        NOTE,
        REVIEWER,
    ]


def fixed_columns(contract: Contract) -> list[str]:
    return [FIXED + name for name in contract.names]
