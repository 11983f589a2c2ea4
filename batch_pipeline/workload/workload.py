"""A workload ready for use: its declaration with the files it names read and checked."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import Settings
from batch_pipeline.workload.checks import UserChecks, load_checks
from batch_pipeline.workload.contract import Contract
from batch_pipeline.workload.prompt import Prompt
from batch_pipeline.workload.spec import TierSpec, WorkloadSpec

_PARTITION = re.compile(r"\{\{\s*partition\s*\}\}")


@dataclass(frozen=True)
class Workload:
    """A declaration, its folder, and what was made of them. Immutable."""

    spec: WorkloadSpec
    folder: Path
    prompt: Prompt
    contract: Contract

    @classmethod
    def build(cls, spec: WorkloadSpec, folder: Path) -> "Workload":
        """Raises ConfigurationError for whatever can be found wrong without reading the source."""
        try:
            workload = cls(
                spec=spec,
                folder=folder,
                prompt=Prompt.load(spec.prompt, folder),
                contract=Contract.from_declaration(spec.output),
            )
            _check_tiers(spec)
        except ConfigurationError as error:
            raise ConfigurationError(f"Workload {spec.name} in {folder}: {error}") from error
        return workload

    @property
    def name(self) -> str:
        return self.spec.name

    def user_checks(self) -> UserChecks | None:
        """The user's own Pandera schema; imports their module. Raises ConfigurationError."""
        if self.spec.checks is None:
            return None
        return load_checks(self.spec.checks, self.folder)

    def fingerprint(self) -> str:
        """sha256 over all that decides an answer and names it: key, prompt, contract, tiers. A load keeps to one."""
        facts = {
            "key": self.spec.source.key,
            "system": self.prompt.system,
            "user": self.prompt.user,
            "contract": self.contract.fingerprint(),
            "tiers": [_answering(tier) for tier in self.spec.tiers],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def at_partition(self, text: str, load: str) -> str:
        """`text` with `{{ partition }}` replaced. `load` is a checked date, so it is safe in SQL."""
        return _PARTITION.sub(load, text)

    def check_load(self, load: str) -> None:
        """Raises ConfigurationError unless `load` is a day this workload can be run for."""
        try:
            day = date.fromisoformat(load)
        except ValueError:
            day = None
        if day is None or day.isoformat() != load:
            raise ConfigurationError(f"{load!r} is not a date; write it as YYYY-MM-DD.")
        if not self.spec.partitions.start <= day <= self._today():
            raise ConfigurationError(
                f"{load} is outside {self.name}'s days, {self.spec.partitions.start} to today "
                f"({self._today()}); partitions.start in its defs.yaml sets the first."
            )

    def last_complete_day(self) -> str:
        """Yesterday in the workload's time zone: what a nightly run processes."""
        return (self._today() - timedelta(days=1)).isoformat()

    def _today(self) -> date:
        return datetime.now(self.spec.partitions.zone).date()


def _answering(tier: TierSpec) -> dict[str, Any]:
    """What of a tier decides its answers: where the model runs does not."""
    return tier.model_dump(mode="json", exclude={"inference_geo"})


def _check_tiers(spec: WorkloadSpec) -> None:
    prices = load_prices(Settings.from_environment().prices)
    for position, tier in enumerate(spec.tiers):
        facts = prices.facts(tier.model)
        most = facts.max_output_tokens
        if most is not None and tier.max_tokens > most:
            # The API would refuse each request by itself, and the whole load would be quarantined.
            raise ConfigurationError(
                f"tiers[{position}].max_tokens is {tier.max_tokens:,}, but {tier.model} answers with at "
                f"most {most:,} tokens."
            )
