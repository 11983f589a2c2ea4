"""An estimate as one JSON object. Money is a number of US dollars."""

from decimal import Decimal
from typing import Any

from batch_pipeline.measure.caching import Hits
from batch_pipeline.measure.estimate import Parts, RequestSize
from batch_pipeline.stages.estimate_sum import Estimate


def to_json(found: Estimate) -> dict[str, Any]:
    """All that the table shows, under names that stay."""
    return {
        "workload": found.workload,
        "load": found.load,
        "lane": found.lane,
        "lane_why": found.lane_why,
        "source_rows": found.volume.source_rows,
        "duplicates": float(found.volume.duplicates),
        "golden_rows": found.volume.golden_rows,
        "requests": float(found.volume.requests),
        "counted_by": found.plan.counted_by if found.plan else None,
        "sampled_rows": found.plan.sampled_rows if found.plan else None,
        "output_from": found.plan.output_from if found.plan else None,
        "tiers": [
            {
                "model": tier.model,
                **_size(tier.size),
                "input_tokens_low": plan.input_tokens.low if plan else None,
                "input_tokens_high": plan.input_tokens.high if plan else None,
                "share": float(tier.share),
                "cache": choice.cache,
                "cache_works": choice.works,
                "cache_why": choice.why,
            }
            for tier, choice, plan in zip(
                found.tiers,
                found.choices,
                found.plan.tiers if found.plan else [None] * len(found.tiers),
                strict=True,
            )
        ],
        "hit_share": _hits(found.hits),
        "break_even_hit_share": float(found.break_even),
        "lines": [
            {"what": line.what, "note": line.note, **_money(line.usd)} for line in found.sums.lines
        ],
        "parts": {name: _parts(parts) for name, parts in found.sums.parts.items()},
        "total_usd": _money(found.sums.total),
        "loads_per_month": float(found.loads_per_month),
        "month_usd": {k: float(v * found.loads_per_month) for k, v in found.sums.total.items()},
        "bound_usd": _optional(found.bound_usd),
        "max_cost_usd": _optional(found.max_cost_usd),
        "max_cost_usd_per_month": _optional(found.max_cost_usd_per_month),
        "budgets": [
            {
                "option": each.option,
                "limit_usd": float(each.limit_usd),
                "committed_usd": float(each.committed_usd),
                "decides": "pilot" if each.word == "pilot" else "budget",
                "within": each.word == "within",
            }
            for each in found.budgets
        ],
        "candidates": [
            {
                "model": each.model,
                **_size(each.size),
                "counted": each.counted,
                "sync_usd": float(each.sync_usd),
                "usd": float(each.usd),
                "cache": each.cache,
                "cache_why": each.cache_why,
                "retires": each.retires,
            }
            for each in found.candidates
        ],
        "verdict": {"batch": found.verdict.word, "reasons": list(found.verdict.reasons)},
        "notes": list(found.notes),
    }


def _size(size: RequestSize) -> dict[str, float]:
    return {
        "prefix_tokens": float(size.prefix),
        "input_tokens": float(size.input),
        "output_tokens": float(size.output),
    }


def _hits(hits: Hits) -> dict[str, Any]:
    return {"typical": float(hits.share), "measured": hits.measured}


def _parts(parts: Parts) -> dict[str, float]:
    return {
        "cache_writes": float(parts.cache_writes),
        "cache_reads": float(parts.cache_reads),
        "input": float(parts.input),
        "output": float(parts.output),
        "total": float(parts.total),
    }


def _money(usd: Any) -> dict[str, float]:
    return {name: float(amount) for name, amount in usd.items()}


def _optional(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)
