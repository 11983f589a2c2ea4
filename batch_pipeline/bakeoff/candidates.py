"""A bake-off and its candidates: each model is a load of the golden rows, of a workload made for it alone.

Its name holds a hyphen, which no declared workload's can: no sensor, gate, metric or baseline ever meets it.
"""

import hashlib
import json
import re
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from batch_pipeline.bakeoff.golden_rows import GoldenRows, open_golden_rows, write_golden_rows
from batch_pipeline.claude.prices import load_prices
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Ledger
from batch_pipeline.rows import replacing
from batch_pipeline.rows.query import querying
from batch_pipeline.settings import Settings
from batch_pipeline.stages.bakeoff_name import bakeoff_name
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.workload.spec import GatesSpec, PromoteSpec, SourceSpec
from batch_pipeline.workload.workload import Workload

RETIRES_SOON = timedelta(days=60)
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


@dataclass(frozen=True)
class Bakeoff:
    """One bake-off: the workload it is about, its candidates in the order given, and what there is to say."""

    workload: Workload
    bakeoff_id: str
    folder: Path
    candidates: tuple[LoadContext, ...]
    said: tuple[str, ...] = ()

    @property
    def answers(self) -> Path:
        """The right answers, by key; nothing that builds requests reads them."""
        return self.folder / "answers.parquet"

    @property
    def rows(self) -> Path:
        return self.folder / "rows.parquet"

    @property
    def models(self) -> list[str]:
        return [model_of(candidate) for candidate in self.candidates]

    @property
    def finished(self) -> bool:
        """Whether every candidate is closed: nothing is sent for it any more."""
        return all(_closed(candidate) for candidate in self.candidates)

    @property
    def started(self) -> bool:
        return any(begun(candidate) for candidate in self.candidates)


def bakeoff_path(bakeoff: Bakeoff) -> Path:
    """Where the page lies, whether or not it was written: beside the loads' pages, which link one another."""
    state = bakeoff.candidates[0].settings.state
    return state / "reports" / bakeoff.workload.name / "bakeoffs" / f"{bakeoff.bakeoff_id}.html"


def model_of(candidate: LoadContext) -> str:
    return candidate.workload.spec.tiers[0].model


def open_bakeoff(
    workload: Workload,
    models: Sequence[str],
    settings: Settings,
    *,
    day: str | None = None,
    again: bool = False,
) -> Bakeoff:
    """The bake-off of these models over the golden set as it is now: the last one, or a new one.

    Nothing is sent, and nothing is left behind where it fails.

    Args:
        workload: with a golden set.
        models: the candidates.
        settings: the environment.
        day: whose source says what types the columns have; by default that of the newest load.
        again: begin a new one where the last is finished.

    Raises:
        ConfigurationError: fewer than two models, one named twice, without a price or retired; no golden set,
            or one that cannot be read; `again` while the last is unfinished.
    """
    check_candidates(workload, models, settings)
    ledger = Ledger.existing(settings)
    day = day or (ledger and ledger.newest_load(workload.name)) or workload.last_complete_day()
    workload.check_load(day)
    with tempfile.TemporaryDirectory() as scratch, querying(Path(scratch)) as connection:
        golden = open_golden_rows(connection, workload, day)
        declared = _declared(workload, models, golden)
        last, others = _earlier(workload, declared, settings)
        if last is not None and again and not last.finished:
            raise ConfigurationError(
                f"The bake-off {last.bakeoff_id} of these models is not finished, and what it sent is paid for; "
                "call without --again to finish it."
            )
        soon = _retiring_soon(models, settings)
        if last is not None and not again:
            return replace(last, said=(*last.said, *soon, *others))
        _refuse_retired(models, settings)
        moment = datetime.now(UTC)
        bakeoff_id = f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        made = _bakeoff(workload, models, bakeoff_id, golden.key, settings)
        write_golden_rows(connection, made.rows, made.answers)
    # What names it comes last: a crash before leaves files that nobody reads.
    facts = {"models": list(models), "declared": declared, "key": golden.key}
    with replacing(made.folder / "bakeoff.json") as path:
        path.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return replace(made, said=(*made.said, *soon, *others))


def check_candidates(workload: Workload, models: Sequence[str], settings: Settings) -> None:
    """All that can be said without reading anything. Raises ConfigurationError."""
    if workload.spec.golden is None:
        raise ConfigurationError(
            f"{workload.name} declares no golden set, so there is nothing to compare models by; add `golden` to "
            "its defs.yaml."
        )
    prices = load_prices(settings.prices)
    known = [prices.facts(model).model for model in models]
    for position, name in enumerate(known):
        if name in known[:position]:
            raise ConfigurationError(
                f"{name} is named twice; a bake-off compares different models, each named once."
            )
    if len(models) < 2:
        raise ConfigurationError("A bake-off compares two models or more; name them as a,b,c.")


def _refuse_retired(models: Sequence[str], settings: Settings) -> None:
    for model, retires in _retirements(models, settings):
        if retires <= datetime.now(UTC).date():
            raise ConfigurationError(
                f"{model} was retired on {retires}, and the API refuses requests for it; leave it out."
            )


def _retiring_soon(models: Sequence[str], settings: Settings) -> list[str]:
    today = datetime.now(UTC).date()
    return [
        f"{model} retires on {retires}, in {(retires - today).days} days."
        for model, retires in _retirements(models, settings)
        if today < retires <= today + RETIRES_SOON
    ]


def _retirements(models: Sequence[str], settings: Settings) -> list[tuple[str, date]]:
    prices = load_prices(settings.prices)
    days = [(model, prices.facts(model).retires) for model in models]
    return [(model, day) for model, day in days if day is not None]


def _bakeoff(
    workload: Workload, models: Sequence[str], bakeoff_id: str, key: str, settings: Settings
) -> Bakeoff:
    folder = _home(workload, settings) / bakeoff_id
    ledger = Ledger.of(settings)
    said: list[str] = []
    candidates = tuple(
        LoadContext(made, f"{bakeoff_id}-{position}", settings, ledger)
        for position, made in enumerate(
            _derive(workload, model, folder / "rows.parquet", key, settings, said)
            for model in models
        )
    )
    return Bakeoff(workload, bakeoff_id, folder, candidates, tuple(said))


def _derive(
    workload: Workload, model: str, rows: Path, key: str, settings: Settings, said: list[str]
) -> Workload:
    """The workload with this model for its one tier: tier 0's parameters, and room for the longest answer."""
    spec = workload.spec
    wanted = max(tier.max_tokens for tier in spec.tiers)
    most = load_prices(settings.prices).facts(model).max_output_tokens or wanted
    if most < wanted:
        said.append(
            f"{model} answers with at most {most:,} tokens: it is asked with that instead of {wanted:,}."
        )
    tier = spec.tiers[0].model_copy(update={"model": model, "max_tokens": min(wanted, most)})
    changes: dict[str, Any] = {
        "name": bakeoff_name(spec.name),
        "source": SourceSpec(path=str(rows), format="parquet", key=key),
        "tiers": [tier],
        "golden": None,
        "gates": GatesSpec(),
        "slices": [],
        "lane": "batch",
        "pilot": False,
        "dedupe": False,
        "reuse": False,
        "schedule": None,
        # Its answers are never promoted.
        "promote": PromoteSpec(),
    }
    return replace(workload, spec=spec.model_copy(update=changes))


def _declared(workload: Workload, models: Sequence[str], golden: GoldenRows) -> str:
    """Names what is compared: models in any order, prompt, contract, parameters, golden rows and answers."""
    spec = workload.spec
    assert spec.golden is not None
    facts: Mapping[str, Any] = {
        "models": sorted(models),
        "prompt": [workload.prompt.system, workload.prompt.user, workload.prompt.cache],
        "contract": workload.contract.fingerprint(),
        "parameters": spec.tiers[0].model_dump(mode="json", exclude={"model"}),
        "max_tokens": max(tier.max_tokens for tier in spec.tiers),
        "checks": spec.checks,
        "match": spec.golden.match,
        "golden": golden.digest,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _earlier(
    workload: Workload, declared: str, settings: Settings
) -> tuple[Bakeoff | None, list[str]]:
    """The last bake-off of the same, and sentences on others that were left unfinished."""
    home = _home(workload, settings)
    same: list[Bakeoff] = []
    said: list[str] = []
    for path in sorted(home.glob("*/bakeoff.json"), reverse=True):
        if not _ID.fullmatch(path.parent.name):
            continue
        facts = json.loads(path.read_text(encoding="utf-8"))
        other = _bakeoff(workload, facts["models"], path.parent.name, facts["key"], settings)
        if facts["declared"] == declared:
            same.append(other)
        elif other.started and not other.finished:
            said.append(
                f"The bake-off {other.bakeoff_id} of {', '.join(other.models)} was left unfinished; what it sent "
                "is paid for, and only a call with those models, prompt and golden set reads it back."
            )
    # One that was sent before one that was only written down.
    same.sort(key=lambda each: not each.started)
    return next(iter(same), None), said


def _home(workload: Workload, settings: Settings) -> Path:
    return settings.state / "bakeoffs" / workload.name


def begun(candidate: LoadContext) -> bool:
    """Whether anything of it may have been sent."""
    return candidate.ledger.load(candidate.workload.name, candidate.load) is not None


def _closed(candidate: LoadContext) -> bool:
    record = candidate.ledger.load(candidate.workload.name, candidate.load)
    return record is not None and record.gate is not None
