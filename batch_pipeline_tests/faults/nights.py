"""A whole night drawn from one number: what is to be done, what goes wrong, and when processes die.

The same seed draws the same night in every process and year. What threads and processes make of it depends on
the machine too, so a replay meets the same faults in nearly the same places.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from batch_pipeline_tests.faults.boundaries import DAGSTER, PRODUCT
from batch_pipeline_tests.night import HAIKU, OPUS, SONNET

GRACE_SECONDS = 0.8
# How long a client waits for an answer in a night in which the API may hang.
TIMEOUT_SECONDS = 1.5
_HANG_SECONDS = 2.5
# Below the grace period: a list that lags for longer than that does pay twice, as the documentation says.
_LAG_SECONDS = 0.5

_KEYS = (
    "{n}",
    "{n:05}",
    "row-{n}",
    "ключ {n}",
    'O\'Neil "{n}"; --',
    "=1+{n}",
    "a,b\t{n}",
    "x" * 200 + "{n}",
)
_ROW_FAULTS = (
    "wrong",
    "not_json",
    "unknown_label",
    "refusal",
    "refusal_midway",
    "truncated",
    "server_error",
    "overloaded",
    "invalid_request",
    "expired",
    "absent",
    "duplicate",
    "unparseable",
    "foreign",
)


@dataclass(frozen=True)
class LoadPlan:
    """One load: how many rows, and what its gate must say: promote, hold, or either where faults decide."""

    workload: str
    load: str
    rows: int


@dataclass(frozen=True)
class Death:
    """The process of a load dies at a boundary of its, if it gets that far."""

    owner: str
    number: int


@dataclass(frozen=True)
class NightPlan:
    """All that a seed decides.

    Attributes:
        loads: one, or two that run at the same time.
        rounds: before the last round, which nothing disturbs, each load is begun this often; by load, what
            kills its process.
        twins: the first load is driven by two processes at once.
        cancelled: the first load is cancelled before this round; None: never.
        closed: the gates open for no bad answer.
        pilot: rows of the pilot; 0 for none.
        strangers: sizes of batches that somebody else creates in the same workspace.
        through_run: `batch-pipeline run` with Dagster, instead of the stages alone.
    """

    seed: int
    loads: tuple[LoadPlan, ...]
    golden: int
    key: str
    declaration: dict[str, Any]
    scenario: dict[str, Any]
    environment: dict[str, str]
    rounds: tuple[tuple[Death | None, ...], ...]
    twins: bool
    cancelled: int | None
    closed: bool
    pilot: int
    strangers: tuple[int, ...]
    through_run: bool
    timeout: float | None = field(default=None)


def draw(seed: int) -> NightPlan:
    """The night of a seed."""
    chance = Random(f"night {seed}")
    through_run = seed % 10 == 0
    max_requests = chance.choice((1, 3, 5, 8, 8, 20, 100))
    most = min(80, max_requests * 8)
    sizes = [chance.choice((1, 2, chance.randint(1, most), most)) for _ in range(2)]
    together = chance.random() < 0.35
    if together and chance.random() < 0.5:
        sizes[1] = sizes[0]  # chunks of equal size, which only their tokens tell apart
    one_workload = chance.random() < 0.5
    loads = [LoadPlan("alpha", "2026-11-20", sizes[0])]
    if together:
        second = ("alpha", "2026-11-21") if one_workload else ("beta", "2026-11-20")
        loads.append(LoadPlan(*second, sizes[1]))
    golden = chance.choice((0, 0, 1, 3, 6))
    closed = chance.random() < 0.15
    calls, hangs = _calls(chance)
    tiers = chance.randint(1, 3)
    deaths = chance.choice((0, 0, 1, 1, 2, 3))
    # Of a stream of its own, or every older seed would draw another night.
    pilot = Random(f"pilot {seed}").choice((0, 0, 0, 2, 6))
    return NightPlan(
        seed=seed,
        loads=tuple(loads),
        golden=golden,
        key=chance.choice(_KEYS),
        declaration={
            "tiers": [
                {"model": model, "max_tokens": 64 + 32 * n}
                for n, model in enumerate((HAIKU, SONNET, OPUS)[:tiers])
            ],
            "limits": {"max_requests": max_requests, "attempts": chance.randint(1, 3)},
            "gates": _gates(closed=closed),
            **({"pilot": {"rows": pilot}} if pilot else {}),
            "golden": {
                "path": "golden.csv",
                "match": ["label"],
                "baseline": 1 if closed else 0,
            },
        },
        scenario={
            "seed": seed,
            "turnaround_seconds": chance.choice((0, 0, [0.0, 0.3], 0.15)),
            "cancel_seconds": chance.choice((0.0, 0.1)),
            "done_when_stopped": chance.choice((0.0, 0.5)),
            "models": _models(chance),
            "calls": calls,
            **_limits(chance, max_requests, max(sizes) + golden),
        },
        environment=_environment(chance, max_requests)
        | {"BATCH_PIPELINE_AT_ONCE": str(1 + seed % 2)},
        rounds=tuple(
            tuple(_death(chance, through_run=through_run) for _ in loads) for _ in range(deaths)
        ),
        twins=not through_run and chance.random() < 0.15,
        cancelled=chance.randint(0, deaths) if deaths and chance.random() < 0.2 else None,
        closed=closed,
        pilot=pilot,
        strangers=tuple(
            chance.choice((max_requests, sizes[0] + golden, 1)) for _ in range(chance.randint(1, 4))
        )
        if chance.random() < 0.25
        else (),
        through_run=through_run,
        timeout=TIMEOUT_SECONDS if hangs else None,
    )


def _gates(*, closed: bool) -> dict[str, Any]:
    if not closed:
        return {"golden_drop_points": 100}
    # Not one bad answer is let through.
    return {"golden_drop_points": 100, "min_validity": 1}


def _models(chance: Random) -> dict[str, dict[str, float]]:
    return {
        model: {
            fault: round(chance.uniform(0.01, 0.15), 3)
            for fault in chance.sample(_ROW_FAULTS, chance.randint(0, 5))
        }
        for model in (HAIKU, SONNET, OPUS)
    }


def _limits(chance: Random, max_requests: int, requests: int) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if chance.random() < 0.2:
        limits["queue_limit"] = max(max_requests, 1) * chance.choice((1, 2))
        if limits["queue_limit"] < min(max_requests, requests):
            limits["queue_limit"] = requests
    if chance.random() < 0.1:
        limits["expires_after_seconds"] = 0.1
    return limits


def _environment(chance: Random, max_requests: int) -> dict[str, str]:
    environment = {"BATCH_PIPELINE_GRACE_SECONDS": str(GRACE_SECONDS)}
    if chance.random() < 0.2:
        most = max_requests * chance.choice((1, 2, 3))
        environment["BATCH_PIPELINE_MAX_IN_FLIGHT"] = str(most)
    return environment


def _calls(chance: Random) -> tuple[list[dict[str, Any]], bool]:
    """Faults of calls, each struck a few times: in the end the API tells the truth. And whether it hangs."""
    rules: list[dict[str, Any]] = []
    hangs = False

    def some(last: int, most: int = 3) -> list[int]:
        return sorted(chance.sample(range(1, last + 1), chance.randint(1, most)))

    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        kind = chance.choice(("create", "create", "create", "retrieve", "list", "results"))
        if kind == "create":
            fault = chance.choice(
                (
                    {"fault": "status", "status": 429, "retry_after": 0.1},
                    {"fault": "status", "status": 429},
                    {"fault": "status", "status": 529},
                    {"fault": "status", "status": 500},
                    {"fault": "drop_before_accepting"},
                    {"fault": "drop_after_accepting"},
                    {"fault": "drop_after_accepting"},
                    {"fault": "error_after_accepting"},
                    {"fault": "error_after_accepting", "status": 529, "retry_after": 0.1},
                    {"fault": "hang", "seconds": _HANG_SECONDS, "when": "before_accepting"},
                    {"fault": "hang", "seconds": _HANG_SECONDS, "when": "after_accepting"},
                )
            )
            hangs |= fault["fault"] == "hang"
            rules.append({"on": "create", "nth": some(6, 1 if hangs else 3), **fault})
        elif kind == "list":
            fault = chance.choice(
                (
                    {"fault": "lag", "seconds": _LAG_SECONDS},
                    {"fault": "status", "status": 500},
                    {"fault": "status", "status": 529, "retry_after": 0.1},
                )
            )
            number = {"first": 40} if fault["fault"] == "lag" else {"nth": some(10)}
            rules.append({"on": "list", **number, **fault})
        elif kind == "retrieve":
            fault = chance.choice(
                (
                    {"fault": "not_found", "seconds": _LAG_SECONDS},
                    {"fault": "status", "status": 500},
                    {"fault": "drop_before_accepting"},
                )
            )
            number = {"first": 40} if fault["fault"] == "not_found" else {"nth": some(8)}
            rules.append({"on": ["retrieve", "results"], **number, **fault})
        else:
            cut = {"fault": "cut_short", "keep": chance.choice((0.0, 0.5, 0.99))}
            fault = chance.choice(
                (
                    {**cut, "at": "line"},
                    {**cut, "at": "mid_line"},
                    {**cut, "at": "connection"},
                    {"fault": "status", "status": 529},
                    {"fault": "status", "status": 429, "retry_after": 0.1},
                    {"fault": "drop_before_accepting"},
                )
            )
            rules.append({"on": "results", "nth": some(6), **fault})
    if chance.random() < 0.15:
        rules.append({"on": "cancel", "nth": [1], "fault": "status", "status": 500})
    return rules, hangs


def _death(chance: Random, *, through_run: bool) -> Death | None:
    if chance.random() < 0.2:
        return None
    if through_run and chance.random() < 0.5:
        return Death(DAGSTER, chance.randint(1, 600))
    # Early ones are where money moves; late ones are reached by nights that have much to do.
    return Death(PRODUCT, chance.choice((chance.randint(1, 80), chance.randint(1, 250))))
