"""How a load is to be sent, and what that should cost: decided once, before its first chunk, and kept.

Every chunk of a load follows the same plan, so that their shared beginning is the same to the byte.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson

from batch_pipeline.ledger.records import Lane
from batch_pipeline.rows import LoadFolder, replacing


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% confidence interval; `low` equals `high` where it is known exactly."""

    mean: float
    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> "Interval":
        return cls(value, value, value)


@dataclass(frozen=True)
class TierPlan:
    """What is expected of one tier's requests. Tokens are a request's, money is US dollars.

    prefix_tokens: what all requests begin with. input_tokens: the rest. cache: none, 5m or 1h, and why.
    hit_share: of the requests, those that find the prefix in the cache. row_usd: what a request should cost,
    and row_bound_usd what it costs at most: few hits, long inputs, long answers.
    """

    model: str
    prefix_tokens: int
    input_tokens: Interval
    output_tokens: Interval
    cache: str
    cache_why: str
    hit_share: float
    row_usd: float
    row_bound_usd: float


@dataclass(frozen=True)
class LoadPlan:
    """The plan of a load.

    counted_by: count_tokens, pilot or guess. output_from: history, pilot or guess. head_parts: how many of the user
    template's leading parts are the same in all rows. escalation: share of rows that climb a tier. requests: of
    tier 0, golden ones included and duplicates left out. notes: what a person should know about the numbers.
    made_for: a digest of the declaration and the source that it was made for.
    """

    made_at: datetime
    lane: Lane
    lane_why: str
    counted_by: str
    output_from: str
    sampled_rows: int
    head_parts: int
    escalation: Interval
    tiers: tuple[TierPlan, ...]
    typical_usd: float
    bound_usd: float
    requests: int = 0
    duplicates: int = 0
    notes: tuple[str, ...] = ()
    made_for: str = ""
    # What was foreseen before anything was sent, where a pilot has corrected it since.
    before_pilot: tuple[float, float] | None = None

    @property
    def foreseen_usd(self) -> tuple[float, float]:
        """What the load should cost, and at most, as it was known before anything of it was sent."""
        return self.before_pilot or (self.typical_usd, self.bound_usd)

    def bound(self, tier: int, requests: int) -> float:
        """The most that so many requests of a tier should cost, in US dollars."""
        return self.tiers[tier].row_bound_usd * requests

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "made_at": self.made_at.isoformat(), "lane": self.lane.value}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "LoadPlan":
        tiers = tuple(
            TierPlan(
                **{
                    **tier,
                    "input_tokens": Interval(**tier["input_tokens"]),
                    "output_tokens": Interval(**tier["output_tokens"]),
                }
            )
            for tier in kept["tiers"]
        )
        return cls(
            **{
                **kept,
                "made_at": datetime.fromisoformat(kept["made_at"]),
                "lane": Lane(kept["lane"]),
                "escalation": Interval(**kept["escalation"]),
                "before_pilot": tuple(kept["before_pilot"]) if kept.get("before_pilot") else None,
                "tiers": tiers,
                "notes": tuple(kept.get("notes", ())),
            }
        )


def kept_plan(folder: LoadFolder) -> LoadPlan | None:
    """The plan that a load follows, or None before it has one."""
    try:
        kept = folder.plan.read_bytes()
    except FileNotFoundError:
        return None
    return LoadPlan.from_json(orjson.loads(kept))


def keep_plan(folder: LoadFolder, plan: LoadPlan) -> None:
    with replacing(folder.plan) as temporary:
        temporary.write_bytes(orjson.dumps(plan.to_json()))
