"""Runs a drawn night with real processes against a simulator, and checks from outside what came of it."""

import json
import shutil
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch_pipeline_tests.faults.nights import Death, LoadPlan, NightPlan
from batch_pipeline_tests.faults.outside import Key, Left, Sent, accepted, billed_twice
from batch_pipeline_tests.faults.place import Place, Rows, opened, rows, write_workload
from batch_pipeline_tests.faults.work import Work, run, start

STRANGERS = "Somebody else"
_PROMOTED, _HELD, _UNFINISHED = 0, 3, 4
_MAX_WAIT = 40
# A call that ends unfinished says "call again".
_LAST_CALLS = 4


@dataclass
class NightEnd:
    """What a night came to. `violations` is empty where every invariant holds."""

    plan: NightPlan
    violations: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    rows: int = 0

    def __str__(self) -> str:
        seed = self.plan.seed
        said = "\n".join(f"- {violation}" for violation in self.violations)
        return f"seed {seed}:\n{said}\nReplay: make soak SEEDS=1 FIRST={seed}"


def run_night(
    plan: NightPlan, folder: Path, *, keep: bool = False, ledger: str | None = None
) -> NightEnd:
    """Drives the night to its end, in a folder that it makes and, unless all is to be kept, removes.

    `ledger` is the URL of an empty database, where the ledger is not to be a file.
    """
    workloads = sorted({load.workload for load in plan.loads})
    golden = {
        name: rows(f"Golden customer of {name}", plan.golden, "golden {n}") for name in workloads
    }
    tables: dict[Key, Rows] = {
        (load.workload, load.load): rows(
            f"Customer of {load.workload} on {load.load}", load.rows, f"{load.load[-2:]} {plan.key}"
        )
        for load in plan.loads
    }
    known = [row for table in (*golden.values(), *tables.values()) for row in table]
    with opened(folder, known, plan.scenario, ledger) as place:
        for workload in workloads:
            days = {day: table for (name, day), table in tables.items() if name == workload}
            write_workload(folder, workload, days, golden[workload], **plan.declaration)
        end = NightEnd(plan)
        codes = _Night(plan, place, end).drive()
        with urllib.request.urlopen(f"{place.base_url}/simulator/account") as response:
            account = json.load(response)
        for kind, struck in account["faults"].items():
            end.faults.update({f"{kind}: {fault}": n for fault, n in struck.items()})
        left, sent = Left(place.state, place.ledger), accepted(place.api)
        for batch in sent:
            end.faults.update({f"row: {kind}": n for kind, n in batch.counts.items() if n})
        end.batches, end.rows = len(sent), sum(load.rows for load in plan.loads)
        end.violations += _violations(plan, tables, left, sent, codes)
        end.violations += _billing(plan, account)
    if not keep:
        shutil.rmtree(folder)
    return end


class _Night:
    """The processes of a night."""

    def __init__(self, plan: NightPlan, place: Place, end: NightEnd) -> None:
        self._plan = plan
        self._place = place
        self._end = end

    def drive(self) -> dict[Key, int]:
        """The exit code of the last call of each load."""
        plan = self._plan
        if plan.strangers:
            arguments = [STRANGERS, list(plan.strangers)]
            others = start(
                self._place.work("batch_pipeline_tests.faults.driving:stranger", arguments, "other")
            )
        for number, deaths in enumerate(plan.rounds):
            if plan.cancelled == number:
                self._cancel()
            works = [
                self._work(load, f"{number}-{n}", death)
                for n, (load, death) in enumerate(zip(plan.loads, deaths, strict=True))
            ]
            if plan.twins:
                works.append(self._work(plan.loads[0], f"{number}-twin", None))
            self._together(works)
        if plan.cancelled == len(plan.rounds):
            self._cancel()
        codes = self._to_the_end()
        if plan.strangers:
            ended = others.wait()
            assert ended.code == 0, ended.output
        return codes

    def _to_the_end(self) -> dict[Key, int]:
        open_loads, codes = list(self._plan.loads), {}
        for number in range(_LAST_CALLS):
            works = [
                self._work(load, f"last{number}-{load.workload}-{load.load}", None)
                for load in open_loads
            ]
            for load, (code, output) in zip(open_loads, self._together(works), strict=True):
                codes[load.workload, load.load] = code
                if code not in (_PROMOTED, _HELD, _UNFINISHED):
                    self._end.violations.append(f"{load}: exit {code}: {output[-2000:]}")
                elif code == _UNFINISHED and number == _LAST_CALLS - 1:
                    self._end.violations.append(f"{load} is stuck: {output[-2000:]}")
            open_loads = [
                load for load in open_loads if codes[load.workload, load.load] == _UNFINISHED
            ]
        return codes

    def _together(self, works: list[Work]) -> list[tuple[int, str]]:
        started = [start(work) for work in works]
        ends = [process.wait() for process in started]
        for work, end in zip(works, ends, strict=True):
            if end.killed and work.fatal:
                self._end.kills[work.fatal[0]] += 1
            elif end.code not in (_PROMOTED, _HELD, _UNFINISHED):
                self._end.violations.append(f"exit {end.code}: {end.output[-2000:]}")
        return [(end.code, end.output) for end in ends]

    def _cancel(self) -> None:
        load = self._plan.loads[0]
        arguments = [load.workload, load.load]
        call = "batch_pipeline_tests.faults.driving:cancel"
        work = self._place.work(call, arguments, "cancel", self._plan.environment)
        ended = run(work)
        if ended.code != 0:
            self._end.violations.append(f"cancel: exit {ended.code}: {ended.output[-1000:]}")

    def _work(self, load: LoadPlan, name: str, death: Death | None) -> Work:
        way = "run" if self._plan.through_run else "stages"
        return self._place.work(
            f"batch_pipeline_tests.faults.driving:{way}",
            [load.workload, load.load, _MAX_WAIT, self._plan.timeout],
            name,
            self._plan.environment,
            (death.owner, death.number) if death else None,
        )


def _violations(
    plan: NightPlan,
    tables: dict[Key, Rows],
    left: Left,
    sent: list[Sent],
    codes: dict[Key, int],
) -> Iterator[str]:
    """Every invariant that does not hold, in a sentence."""
    ours = [batch for batch in sent if not any(STRANGERS in text for text in batch.texts)]
    accepted_ids = Counter(batch.batch_id for batch in ours)
    recorded_ids = Counter(batch["batch_id"] for batch in left.batches)
    if accepted_ids != recorded_ids:
        yield (
            f"the API accepted {sorted(accepted_ids - recorded_ids)} that the ledger does not know, and the "
            f"ledger has {sorted(recorded_ids - accepted_ids)} that are not ours"
        )
    for batch in left.batches:
        mine = next((each for each in ours if each.batch_id == batch["batch_id"]), None)
        if mine is not None and mine.tokens_of_ids != {batch["token"]}:
            yield f"batch {mine.batch_id} is recorded as the chunk {batch['token']}, but carries another's rows"
    yield from billed_twice(left, sent)
    for key, table in tables.items():
        for said in _of_load(plan, key, table, left, ours, codes.get(key)):
            yield f"{key[0]} {key[1]}: {said}"
    if leftovers := left.leftovers():
        yield f"left behind: {', '.join(leftovers)}"


def _of_load(
    plan: NightPlan, key: Key, table: Rows, left: Left, ours: list[Sent], code: int | None
) -> Iterator[str]:
    if key not in left.loads:
        yield "the ledger does not know it"
        return
    record = left.loads[key]
    if record["held_by"] == "pilot" and plan.pilot:
        # The rest was not sent, so nothing can be said of it, and nothing may have been promoted.
        if code == _PROMOTED or record["promoted_at"] or left.promoted(key):
            yield "it was promoted, though its pilot did not pass"
        return
    ends = left.dispositions(key)
    measures = left.measures(key)
    if sorted(ends) != sorted(row["id"] for row in table):
        yield f"{len(table)} source rows have {len(ends)} dispositions"
    if measures.get("coverage", (None,))[:2] != (len(table), len(table)):
        yield f"coverage is measured as {measures.get('coverage')}, of {len(table)} rows"
    kinds = Counter(end[0] for end in ends.values())
    counted = {
        kind: measures.get(kind, (None,))[0]
        for kind in ("validated", "quarantined", "human_review")
    }
    if counted != {kind: kinds[kind] for kind in counted} or kinds.total() != len(table):
        yield f"the dispositions {dict(kinds)} are measured as {counted}, of {len(table)} rows"
    batch_ids = {
        batch["batch_id"] for batch in left.batches if (batch["workload"], batch["load"]) == key
    }
    cost = sum(batch.cost for batch in ours if batch.batch_id in batch_ids)
    measured = measures.get("cost_usd", (None, None, None))[2]
    if measured is None or abs(measured - cost) > 1e-9:
        yield f"it cost {cost:.9f} USD by the API's account, and {measured} by the metrics"
    promoted = [str(line[0]) for line in left.promoted(key)]
    validated = sorted(name for name, end in ends.items() if end[0] == "validated")
    good, answered, _ = measures.get("validity", (0, 0, None))
    shut = plan.closed and (good or 0) < (answered or 0)
    if code == _PROMOTED:
        if shut:
            yield "it was promoted, though its gate lets no bad answer through"
        if sorted(promoted) != validated:
            yield f"{len(validated)} rows are validated and {len(promoted)} promoted"
        if record["promoted_rows"] != len(validated):
            yield f"the ledger says that {record['promoted_rows']} rows are promoted"
    elif promoted or record["promoted_at"]:
        yield f"{len(promoted)} rows are promoted, though it ended with {code}"


def _billing(plan: NightPlan, account: dict[str, Any]) -> Iterator[str]:
    # The golden rows of two loads of one workload are the same to the letter; nothing else is, ever.
    most = Counter(load.workload for load in plan.loads).most_common(1)[0][1]
    for times, number in account["params_billed"].items():
        if int(times) > (most if plan.golden else 1):
            yield f"the API's account: {number} requests were billed {times} times"
