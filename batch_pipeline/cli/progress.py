"""One live line per wave on standard error; plain lines where it is not a terminal."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.live import Live
from rich.table import Table

from batch_pipeline.errors import printable
from batch_pipeline.ledger import Batch, Chunk, ChunkState
from batch_pipeline.stages.context import LoadContext

CEILING = timedelta(hours=24)


@dataclass(frozen=True)
class Wave:
    """The batches that were sent together, as a line."""

    number: int
    tiers: str
    batches: int
    requests: int
    state: str
    age: timedelta | None

    def cells(self) -> tuple[str, ...]:
        plural = "es" if self.batches != 1 else ""
        age = f"{_clock(self.age)} of {_clock(CEILING)}" if self.age is not None else ""
        return (
            f"wave {self.number}",
            self.tiers,
            f"{self.batches} batch{plural}",
            f"{self.requests:,} requests",
            self.state,
            age,
        )


def waves(chunks: list[Chunk], batches: list[Batch]) -> list[Wave]:
    """The waves of a load, in order. `age` is that of the oldest batch still open."""
    by_chunk = {batch.chunk_id: batch for batch in batches}
    sent = [
        chunk for chunk in chunks if chunk.state is not ChunkState.NOT_CREATED and chunk.requests
    ]
    lines = []
    for number in sorted({chunk.wave for chunk in sent}):
        mine = [chunk for chunk in sent if chunk.wave == number]
        known = [by_chunk[chunk.chunk_id] for chunk in mine if chunk.chunk_id in by_chunk]
        running = [batch for batch in known if batch.open]
        oldest = min((batch.created_at for batch in running), default=None)
        lines.append(
            Wave(
                number=number,
                tiers=" + ".join(
                    dict.fromkeys(f"tier {chunk.tier} {chunk.model}" for chunk in mine)
                ),
                batches=len(mine),
                requests=sum(chunk.requests for chunk in mine),
                state=_state(mine, known),
                age=datetime.now(UTC) - oldest if oldest else None,
            )
        )
    return lines


def _state(chunks: list[Chunk], batches: list[Batch]) -> str:
    counts = {
        "sending": len(chunks) - len(batches),
        "running": sum(batch.open for batch in batches),
        "ended": sum(batch.ended and batch.collected_at is None for batch in batches),
        "read back": sum(batch.collected_at is not None for batch in batches),
    }
    present = {name: n for name, n in counts.items() if n}
    if len(present) == 1:
        return next(iter(present))
    return ", ".join(f"{n} {name}" for name, n in present.items())


class Progress:
    """Shows a load's waves while they run."""

    def __init__(self, context: LoadContext) -> None:
        self._context = context
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._said: dict[int, str] = {}

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self.update()
            self._live.stop()

    def say(self, sentence: str) -> None:
        said = sentence.removeprefix(f"{self._context}: ")
        self._console.print(
            printable(f"{self._context}: {said}"), highlight=False, markup=False, soft_wrap=True
        )

    def update(self) -> None:
        """Redraws the live lines; without a terminal, prints a line when its wave changed state."""
        record = self._context.ledger.load(self._context.workload.name, self._context.load)
        if record is None:
            return
        lines = waves(self._context.ledger.chunks(record), self._context.ledger.batches(record))
        if self._live is not None:
            table = Table.grid(padding=(0, 2))
            for wave in lines:
                table.add_row(*wave.cells())
            self._live.update(table)
            return
        for wave in lines:
            if self._said.get(wave.number) != wave.state:
                self._said[wave.number] = wave.state
                self.say(" · ".join(cell for cell in wave.cells() if cell))

    def sleep(self, seconds: float) -> None:
        """Waits, keeping the ages on the screen moving."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            if self._live is not None:
                self.update()


def _clock(span: timedelta) -> str:
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
