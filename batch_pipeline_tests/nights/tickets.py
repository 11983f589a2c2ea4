"""The workload of the simulated nights: short tickets, written by a template, for a sorter with two tiers.

All drawn from a seed. The simulator knows every right answer from the night's answer key; which answers fail is
drawn by its scenario, except for a planted slice and for golden rows, where the key says so row by row.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from batch_pipeline.simulator.scenario import Answers, Lookup, Scenario
from batch_pipeline_tests.nights.plan import (
    BROKEN_SHARE,
    CACHE_HITS,
    CACHE_HITS_LOST,
    DRIFT_PER_NIGHT,
    FIRST_DAY,
    OUTPUT_PRICE_FACTOR,
    Plan,
    day_of,
)

NAME = "night_tickets"
FIRST_TIER, SECOND_TIER = "claude-sonnet-4-6", "claude-opus-4-8"
CHANNELS = {"email": 0.40, "chat": 0.25, "web": 0.17, "phone": 0.10, "partner": 0.08}
REGIONS = {"north": 0.4, "south": 0.3, "east": 0.2, "west": 0.1}
BROKEN_CHANNEL = "partner"
CATEGORIES = {
    "billing": (0.30, "The invoice for order {n} shows {amount} euros more than we agreed."),
    "delivery": (0.25, "Order {n} was due {days} days ago and nothing has arrived."),
    "defect": (0.20, "The device from order {n} stopped after {days} days of use."),
    "account": (0.15, "I cannot sign in since {days} days; my customer number is {n}."),
    "praise": (0.10, "Order {n} came {days} days early, thank you all."),
}
GOLDEN_ROWS = 150
# What happens on a night on which nothing happens. Nobody has measured a real model's flips yet.
USUAL_BROKEN = 0.006
USUAL = {"truncated": 0.002, "refusal": 0.001, "server_error": 0.002, "expired": 0.001}
GOLDEN_FLIPS = 0.003
_HARD, _HARD_WHEN_MENDED = 19, 25  # every so many golden rows are beyond the models


def write_workload(folder: Path, *, seed: int) -> None:
    """Writes the workload's folder: declaration, prompt and golden set."""
    place = folder / NAME
    attributes = {
        "name": NAME,
        "description": "Sorts the tickets of the simulated nights.",
        "source": {"path": "source/{{ partition }}.csv", "key": "ticket_id"},
        "prompt": {"system": "system.md", "user": "{{ channel }}\n\n{{ text }}", "cache": "1h"},
        "output": {
            "category": {"type": "string", "enum": list(CATEGORIES)},
            "urgency": {"type": "integer", "minimum": 1, "maximum": 5},
        },
        "tiers": [
            {"model": FIRST_TIER, "max_tokens": 64},
            {"model": SECOND_TIER, "max_tokens": 128},
        ],
        "golden": {"path": "golden.csv", "match": ["category"], "baseline": 0.94},
        "gates": {"min_validity": 0.95, "golden_drop_points": 3},
        "slices": ["channel", "region"],
        "partitions": {"start": FIRST_DAY},
    }
    write_prompt(folder, mended=False)
    (place / "defs.yaml").write_text(
        yaml.safe_dump({"type": "batch_pipeline.BatchWorkload", "attributes": attributes}),
        encoding="utf-8",
    )
    columns = ("ticket_id", "channel", "region", "text")
    lines = [
        {**{column: row[column] for column in columns}, "expected_category": row["category"]}
        for row in golden_rows(seed)
    ]
    _write(place / "golden.csv", lines)


def write_prompt(folder: Path, *, mended: bool) -> None:
    """The system prompt: long enough for both tiers to cache it."""
    words = [
        "You sort the tickets that customers send to a shop. Give the one category that fits best.",
        "Say how urgent it is, from 1 (can wait) to 5 (today): 2, one more where money is missing; praise is 1.",
    ]
    if mended:
        words.append("Answer with the category's name as it is listed, and nothing else around it.")
    for number, (category, (_, template)) in enumerate(CATEGORIES.items(), 1):
        words.append(f"## {number}. {category}")
        words += [
            f"Example {number}.{i}: “{template.format(n=1000 + i, amount=i, days=i)}” is {category}, "
            f"whatever the tone, the length or the channel, with an urgency of {1 + i % 5}."
            for i in range(1, 8)
        ]
    path = folder / NAME / "system.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(words), encoding="utf-8")


def write_night(folder: Path, plan: Plan, night: int, *, rows: int, seed: int) -> Scenario:
    """Writes a night's source and answer key; returns how the simulator is to behave on it."""
    draw = Random(f"{seed} night {night}")
    source = [_ticket(draw, f"N{night:02}-{i:05}") for i in range(rows)]
    columns = ("ticket_id", "channel", "region", "text")
    _write(
        folder / NAME / "source" / f"{day_of(night)}.csv",
        [{column: row[column] for column in columns} for row in source],
    )
    slice_broken = plan.active("slice", night) is not None
    golden = golden_rows(seed)
    hard = _HARD_WHEN_MENDED if plan.since("prompt", night) else _HARD
    key = []
    for row in source:
        breaks = slice_broken and row["channel"] == BROKEN_CHANNEL and draw.random() < BROKEN_SHARE
        key.append(_answer(row, "broken" if breaks else "", FIRST_TIER))
    for i, row in enumerate(golden):
        wrong = (i % hard == 0) != (draw.random() < GOLDEN_FLIPS)
        key.append(_answer(row, "wrong" if wrong else "", ""))
    answers = folder / "answer_key" / f"{day_of(night)}.csv"
    _write(answers, key)
    drifting = plan.active("drift", night)
    sunk = DRIFT_PER_NIGHT * (night - drifting.first + 1) if drifting else 0.0
    return Scenario(
        description=f"Night {night} of the simulated nights.",
        seed=seed * 1_000 + night,
        cache_hit_rate=CACHE_HITS_LOST if plan.active("cache", night) else CACHE_HITS,
        answers=Answers(file=answers, lookup=Lookup(column="text", pattern=r"(?s)\n\n(.*)\Z")),
        models={
            FIRST_TIER: {**USUAL, "broken": USUAL_BROKEN + sunk},
            SECOND_TIER: {"broken": 0.05},
        },
    )


def write_prices(folder: Path) -> Path:
    """A price table in which the first tier's output is dearer than in the shipped one; its path."""
    from batch_pipeline.claude.prices import load_prices

    facts = load_prices(None).facts(FIRST_TIER)
    latest = facts.prices[-1]
    rates = {name: str(rate) for name, rate in vars(latest.rates).items()}
    rates["output"] = str(latest.rates.output * OUTPUT_PRICE_FACTOR)
    path = folder / "prices.yaml"
    dated = [{"effective_from": latest.effective_from, "rates": rates}]
    path.write_text(yaml.safe_dump({"models": {FIRST_TIER: {"prices": dated}}}), encoding="utf-8")
    return path


def golden_rows(seed: int) -> list[dict[str, str]]:
    """Every channel and region often enough to be told apart."""
    draw = Random(f"{seed} golden")
    channels, regions = list(CHANNELS), list(REGIONS)
    return [
        {
            **_ticket(draw, f"G-{i:05}"),
            "channel": channels[i % len(channels)],
            "region": regions[i % len(regions)],
        }
        for i in range(GOLDEN_ROWS)
    ]


def _ticket(draw: Random, key: str) -> dict[str, str]:
    category = _drawn(draw, {name: share for name, (share, _) in CATEGORIES.items()})
    text = CATEGORIES[category][1].format(
        n=draw.randint(10_000, 99_999), amount=draw.randint(2, 90), days=draw.randint(1, 20)
    )
    return {
        "ticket_id": key,
        "channel": _drawn(draw, CHANNELS),
        "region": _drawn(draw, REGIONS),
        "text": f"{text} (ticket {key})",
        "category": category,
        "urgency": str(draw.randint(1, 5)),
    }


def _answer(row: Mapping[str, str], fault: str, model: str) -> dict[str, str]:
    return {
        "text": row["text"],
        "category": row["category"],
        "urgency": row["urgency"],
        "fault": fault,
        "fault_model": model if fault else "",
    }


def _drawn(draw: Random, shares: Mapping[str, float]) -> str:
    return draw.choices(list(shares), list(shares.values()))[0]


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
