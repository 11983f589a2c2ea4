"""The table in docs/reliability.md: every fault is produced here, and every cell of its line is measured."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import PipelineError
from batch_pipeline.settings import project_root
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.findings import findings
from batch_pipeline.stages.next_step import Action
from batch_pipeline.stages.promote import GateClosedError
from batch_pipeline.stages.resolve import resolve
from batch_pipeline_tests import forked
from batch_pipeline_tests.night import HAIKU, Night
from batch_pipeline_tests.stages.watching import (
    accepted,
    ask,
    downloads,
    finals,
    paid_twice,
    posts,
)

N = 2000
PAGE = project_root() / "docs" / "reliability.md"
# What a person is told, by how the sentence begins.
TOLD = {
    "Sending has stopped": "page: sending stopped, and why",
    "Sending waits until": "until when sending waits, and why",
    "A chunk of": "a lost answer is looked for",
    "A batch of": "page: what was paid twice",
    "The API does not know batch": "the API does not know a batch",
}

Hook = Callable[[Simulator, Night], None]


@dataclass(frozen=True)
class Fault:
    """One line of the table.

    `scenario` is the simulator's; `submit` and `submitted` replace, and follow, the first sending; `varies`
    names the calls whose number depends on how fast this machine is.
    """

    scenario: dict[str, Any] = field(default_factory=dict)
    grace: float = 60
    limits: dict[str, Any] = field(default_factory=dict)
    submit: Hook = lambda _, night: _submit(night)
    submitted: Hook = lambda _simulator, _night: None
    settled: Hook = lambda _simulator, _night: None
    varies: str | None = None


def call(on: str | list[str], fault: str, **rule: Any) -> dict[str, Any]:
    return {"calls": [{"on": on, "fault": fault, **rule}]}


def some(fault: str, every: int) -> dict[str, Any]:
    """So many of the first sending, and no more."""
    return {"rows": [{"every": every, "times": N // every, "fault": fault}]}


def delete_the_batch(simulator: Simulator, night: Night) -> None:
    night.wait()
    [batch] = accepted(simulator)
    ask(simulator, "DELETE", batch["id"])


def write_another_batch(simulator: Simulator, _night: Night) -> None:
    """Somebody else's, of the same size, in the same workspace."""
    requests = [
        {
            "custom_id": f"theirs-{n}",
            "params": {
                "model": HAIKU,
                "max_tokens": 8,
                "messages": [{"role": "user", "content": f"hello {n}"}],
            },
        }
        for n in range(N)
    ]
    httpx2.post(
        f"{simulator.base_url}/v1/messages/batches",
        headers={"authorization": "Bearer other-key", "anthropic-version": "2026-10-21"},
        json={"requests": requests},
    ).raise_for_status()


def see_the_duplicate(_simulator: Simulator, night: Night) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = resolve(night.context, BatchesApi())
        if found is not None and any("paid twice" in sentence for sentence in found.said):
            return
        time.sleep(0.1)


def killed(where: str) -> Hook:
    """Sends in a process of its own that kills itself, as `kill -9` would, right after `where`."""
    script = (
        "import os, signal, sys\n"
        "from batch_pipeline.claude.client import BatchesApi\n"
        "from batch_pipeline.ledger import Ledger\n"
        "from batch_pipeline.settings import Settings\n"
        "from batch_pipeline.stages.context import LoadContext\n"
        "from batch_pipeline.stages.source import read_source\n"
        "from batch_pipeline.stages.submit import send_pending\n"
        "from batch_pipeline.workload.catalogue import find_workload\n"
        "owner = {'create': BatchesApi, 'record_submitted': Ledger}[sys.argv[1]]\n"
        "original = getattr(owner, sys.argv[1])\n"
        "def and_die(*args, **options):\n"
        "    original(*args, **options)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "setattr(owner, sys.argv[1], and_die)\n"
        "settings = Settings.from_environment()\n"
        "context = LoadContext.open(find_workload('questions', settings), sys.argv[2], settings)\n"
        "read_source(context)\n"
        "send_pending(context, BatchesApi)\n"
    )

    def submit(_simulator: Simulator, night: Night) -> None:
        environment = {**os.environ, "BATCH_PIPELINE_WORKLOADS": str(night.folder.parent)}
        done = forked.run(script, where, night.context.load, environment=environment)
        assert done.returncode == -signal.SIGKILL, done.stderr

    return submit


FAULTS: dict[str, Fault] = {
    "none": Fault(),
    # Rows
    "2% of the rows errored": Fault(some("server_error", 50)),
    "2% expired": Fault(some("expired", 50)),
    "1% invalid_request": Fault(some("invalid_request", 100)),
    # A create call
    "killed before the batch id was read": Fault(submit=killed("create")),
    "killed when the batch id was committed": Fault(submit=killed("record_submitted")),
    "create answered 500 after accepting": Fault(call("create", "error_after_accepting", nth=1)),
    "connection lost after accepting": Fault(call("create", "drop_after_accepting", nth=1)),
    "connection lost before accepting": Fault(
        call("create", "drop_before_accepting", nth=1), grace=0.3
    ),
    "connection lost, list lags for less than the grace period": Fault(
        {
            "calls": [
                {"on": "create", "fault": "drop_after_accepting", "nth": 1},
                {"on": "list", "fault": "lag", "seconds": 2},
            ]
        }
    ),
    "connection lost, another writer's batch of the same size beside it": Fault(
        call("create", "drop_after_accepting", nth=1) | {"turnaround_seconds": 1},
        submitted=write_another_batch,
        varies="downloads",
    ),
    "create answered 529, three times": Fault(
        call("create", "status", status=529, first=3), grace=0.3
    ),
    "create answered 429, three times": Fault(call("create", "status", status=429, first=3)),
    "queue full": Fault(
        {"queue_limit": N // 2, "turnaround_seconds": 0.5},
        limits={"max_requests": N // 4},
        varies="create calls",
    ),
    "spend limit reached, then raised": Fault(
        call(
            "create",
            "status",
            nth=2,
            status=429,
            error_code="enforced_spend_limit_reached",
            message="Your organization has reached its spend limit",
        ),
        limits={"max_requests": N // 2},
    ),
    # Looking
    "list and retrieve answer 500, five times": Fault(
        call(["list", "retrieve"], "status", status=500, first=5) | {"turnaround_seconds": 0.2}
    ),
    "batch answers 404 for a while": Fault(
        {
            "turnaround_seconds": 0.2,
            "calls": [
                {"on": "list", "fault": "lag", "seconds": 3600},
                {"on": "retrieve", "fault": "not_found", "seconds": 2},
            ],
        }
    ),
    "batch deleted by somebody": Fault(submitted=delete_the_batch, grace=0.3),
    "archived: not read back within 29 days": Fault({"results_kept_seconds": 0.01}),
    # Results
    "download breaks off midway": Fault(call("results", "cut_short", at="connection", nth=1)),
    "download ends early, cleanly": Fault(call("results", "cut_short", at="line", nth=1)),
    "download ends within a line": Fault(call("results", "cut_short", at="mid_line", nth=1)),
    "download answers 500, five times": Fault(call("results", "status", status=500, first=5)),
    "ten lines twice": Fault(some("duplicate", 200), grace=0.3),
    "ten lines of a custom_id that was never sent": Fault(some("foreign", 200), grace=0.3),
    "ten lines unreadable": Fault(some("unparseable", 200), grace=0.3),
    "ten lines missing": Fault(some("absent", 200), grace=0.3),
    # Beyond what can be done
    "connection lost, list lags for longer than the grace period": Fault(
        {
            "calls": [
                {"on": "create", "fault": "drop_after_accepting", "nth": 1},
                {"on": "list", "fault": "lag", "seconds": 6},
            ]
        },
        grace=0.1,
        settled=see_the_duplicate,
    ),
}

# Of tables whose last cell names a test: the line by its first cell.
TABLE: dict[str, str] = dict(
    re.findall(r"^\| ([^|]+?) \| (.* \| `[^`|]+`) \|$", PAGE.read_text(), re.MULTILINE)
)


def _submit(night: Night) -> None:
    try:
        night.submit()
    except PipelineError:
        # Said to whoever launched it; the load says it too.
        assert night.context.record().stopped


def look(night: Night, told: dict[str, None]) -> None:
    """Notes what a person is told at this moment, on the check and by `run`."""
    record = night.context.record()
    for finding in findings(night.ledger, record, night.context.settings):
        told.update(
            {said: None for begins, said in TOLD.items() if finding.sentence.startswith(begins)}
        )
    if any(batch.retry_reason for batch in night.ledger.batches(record)):
        told["results are fetched again"] = None


def drive(night: Night, told: dict[str, None]) -> None:
    """Goes on as the sensor does; a load that has stopped is launched again, by a person."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        look(night, told)
        action = night.step()
        if action is Action.STOPPED:
            night.submit()
        if action in (Action.PUBLISH, Action.HELD):
            return
    raise AssertionError("the load did not settle")


def _calls(number: int, kind: str, varies: str | None) -> str:
    return kind + "s" if varies == kind + "s" else f"{number} {kind}{'s' * (number != 1)}"


def measured(
    simulator: Simulator, night: Night, told: dict[str, None], varies: str | None
) -> list[str]:
    """The cells: what the API saw, what the user sees, rows lost, rows paid twice."""
    try:
        promoted = night.publish().promotion.rows
        ended = [f"{promoted:,} promoted"]
    except GateClosedError:
        promoted = 0
        ended = ["held by the gate"]
    fates = finals(night)
    others = Counter((f.disposition, f.reason) for f in fates.values())
    validated = sum(f.disposition == "validated" for f in fates.values())
    ended += [
        f"{n:,} {disposition} ({reason})"
        for (disposition, reason), n in others.items()
        if disposition != "validated"
    ]
    batches = night.ledger.batches(night.context.record())
    if any(batch.defects or batch.results_gone for batch in batches):
        told["check `results_complete` fails"] = None
    ours = {batch.batch_id for batch in batches}
    held = [batch for batch in accepted(simulator) if batch["id"] in ours]
    sizes = " + ".join(f"{batch['requests']:,}" for batch in held)
    creates = posts(simulator) - (len(accepted(simulator)) - len(held))
    reads = downloads(simulator)
    api = [
        f"{sizes} requests accepted",
        _calls(creates, "create call", varies),
        _calls(reads, "download", varies)
        if reads <= 2 * len(held) + 1
        else "downloads again, with growing pauses",
    ]
    lost = N - len(fates) + abs(validated - promoted)
    return [
        "; ".join(api),
        "; ".join(ended + list(told)),
        f"{lost:,}",
        f"{paid_twice(simulator):,}",
    ]


@pytest.mark.parametrize("name", FAULTS)
def test_fault(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    fault = FAULTS[name]
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", str(fault.grace))
    simulator = simulate(known=N, **fault.scenario)
    n = night(count=N, golden=0, limits=fault.limits)
    told: dict[str, None] = {}
    fault.submit(simulator, n)
    look(n, told)
    fault.submitted(simulator, n)
    drive(n, told)
    fault.settled(simulator, n)
    drive(n, told)
    look(n, told)
    row = " | ".join(
        [*measured(simulator, n, told, fault.varies), f"`test_reliability.py::test_fault[{name}]`"]
    )
    assert TABLE.get(name) == row, f"{PAGE} should say:\n| {name} | {row} |"


def test_every_line_of_the_table_names_a_test_that_exists() -> None:
    assert set(FAULTS) <= set(TABLE)
    tests = Path(__file__).parent
    for name, rest in TABLE.items():
        if name in FAULTS:
            continue
        cells = rest.split(" | ")
        assert cells[2:4] == ["0", "0"], name
        path, _, function = cells[4].strip("`").partition("::")
        assert f"def {function}(" in (tests / path).read_text(), (name, path, function)
