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

All of it lies below the state folder, or, with BATCH_PIPELINE_ROWS, below that URL, where every host finds it;
but `chunks/` and `review/` stay below the state folder of the host that made them. Nobody else needs them: a
body is sent once, by whoever made it, and what a host that was lost has sent is told by `sent/` and the ledger.

In an object store `answers/<chunk>.jsonl/` holds an object for each answer (see stages/answer_objects.py). The
order in which files are written is the same in both: a file first, then what the ledger says of it. A listing
decides nothing but which of the files of known chunks are there yet.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from batch_pipeline.rows.place import ObjectPath, Place, shared
from batch_pipeline.settings import Settings


@dataclass(frozen=True)
class LoadFolder:
    """The files of one generation of a load: `root` is what all hosts see, `local` is this one's own.

    Nothing here touches a disk or a store.
    """

    root: Place
    local: Path

    @classmethod
    def of(
        cls, state: Path, workload: str, load: str, generation: int, root: Place | None = None
    ) -> "LoadFolder":
        """Below `root`, as `rows.shared` gives it, or else below the state folder."""
        inside = f"rows/{workload}/{load}/g{generation}"
        return cls((root or state) / inside, state / inside)

    @classmethod
    def configured(
        cls, settings: Settings, workload: str, load: str, generation: int
    ) -> "LoadFolder":
        """Where the settings say that rows are. Raises ConfigurationError as `rows.shared`."""
        return cls.of(settings.state, workload, load, generation, shared(settings))

    @property
    def source(self) -> Place:
        return self.root / "source.parquet"

    @property
    def golden(self) -> Place:
        return self.root / "golden.parquet"

    @property
    def plan(self) -> Place:
        return self.root / "plan.json"

    @property
    def prompts(self) -> Place:
        return self.root / "prompts.parquet"

    @property
    def dispositions(self) -> Place:
        return self.root / "dispositions.parquet"

    @property
    def promoted(self) -> Place:
        return self.root / "promoted.parquet"

    @property
    def decisions(self) -> Place:
        return self.root / "decisions.parquet"

    @property
    def review(self) -> Path:
        return self.local / "review"

    def body(self, chunk_id: str) -> Path:
        return self.local / "chunks" / f"{chunk_id}.json"

    def sent(self, chunk_id: str) -> Place:
        return self.root / "sent" / f"{chunk_id}.parquet"

    def answers(self, chunk_id: str) -> Place:
        return self.root / "answers" / f"{chunk_id}.jsonl"

    def raw(self, chunk_id: str) -> Place:
        return self.root / "raw" / f"{chunk_id}.jsonl.zst"

    def results(self, chunk_id: str) -> Place:
        return self.root / "results" / f"{chunk_id}.parquet"

    def verdicts(self, chunk_id: str) -> Place:
        return self.root / "verdicts" / f"{chunk_id}.parquet"


def present(paths: Iterable[Place]) -> list[str]:
    """Those that exist, as DuckDB wants them. Of a folder in an object store all are asked for at once."""
    listed: dict[ObjectPath, set[str]] = {}
    found = []
    for path in paths:
        if isinstance(path, Path):
            there = path.is_file()
        else:
            folder = path.parent
            if folder not in listed:
                listed[folder] = {each.url for each in folder.glob("*")}
            there = path.url in listed[folder]
        if there:
            found.append(str(path))
    return found
