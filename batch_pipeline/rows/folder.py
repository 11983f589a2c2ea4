"""Where the files of a load lie.

rows/<workload>/<load>/g<generation>/
    source.parquet            every row in sending order, golden ones among them
    golden.parquet            the expected answers; never read by what builds requests
    plan.json                 how the load is sent, and what that should cost
    prompts.parquet           a digest of each row's rendered prompt
    chunks/<chunk>.json       a request body, until its batch is known
    sent/<chunk>.parquet      which rows the chunk carries
    answers/<chunk>.jsonl     synchronous answers as they came, until the chunk is complete
    raw/<chunk>.jsonl.zst     the API's results, verbatim
    results/<chunk>.parquet   the same, parsed; one line per row sent
    verdicts/<chunk>.parquet  what the contract says of each
    dispositions.parquet      the final state of every row
    promoted.parquet          the rows as this load promoted them
    decisions.parquet         what reviewers decided of the rows in human_review
    review/                   an import that is under way
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LoadFolder:
    """The files of one generation of a load. Nothing here touches the disk."""

    root: Path

    @classmethod
    def of(cls, state: Path, workload: str, load: str, generation: int) -> "LoadFolder":
        return cls(state / "rows" / workload / load / f"g{generation}")

    @property
    def source(self) -> Path:
        return self.root / "source.parquet"

    @property
    def golden(self) -> Path:
        return self.root / "golden.parquet"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def prompts(self) -> Path:
        return self.root / "prompts.parquet"

    @property
    def dispositions(self) -> Path:
        return self.root / "dispositions.parquet"

    @property
    def promoted(self) -> Path:
        return self.root / "promoted.parquet"

    @property
    def decisions(self) -> Path:
        return self.root / "decisions.parquet"

    @property
    def review(self) -> Path:
        return self.root / "review"

    def body(self, chunk_id: str) -> Path:
        return self.root / "chunks" / f"{chunk_id}.json"

    def sent(self, chunk_id: str) -> Path:
        return self.root / "sent" / f"{chunk_id}.parquet"

    def answers(self, chunk_id: str) -> Path:
        return self.root / "answers" / f"{chunk_id}.jsonl"

    def raw(self, chunk_id: str) -> Path:
        return self.root / "raw" / f"{chunk_id}.jsonl.zst"

    def results(self, chunk_id: str) -> Path:
        return self.root / "results" / f"{chunk_id}.parquet"

    def verdicts(self, chunk_id: str) -> Path:
        return self.root / "verdicts" / f"{chunk_id}.parquet"


def present(paths: Iterable[Path]) -> list[str]:
    """Those that exist, as DuckDB wants them."""
    return [str(path) for path in paths if path.is_file()]
