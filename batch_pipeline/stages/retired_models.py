"""Models that the API no longer answers, or soon will not: asked before sending, never of a load that is read."""

from datetime import timedelta

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import Settings
from batch_pipeline.stages.plan_prices import today
from batch_pipeline.workload.workload import Workload

# Time enough to measure another model and to declare it.
_SOON = timedelta(days=60)


def require_models_in_service(workload: Workload, settings: Settings) -> None:
    """Raises ConfigurationError where a tier's model is retired, so that each of its requests would fail."""
    table = load_prices(settings.prices)
    for position, tier in enumerate(workload.spec.tiers):
        retires = table.facts(tier.model).retires
        if retires is not None and retires <= today():
            raise ConfigurationError(
                f"Workload {workload.name}: tiers[{position}].model {tier.model} was retired on {retires}, and the API "
                "answers nothing for it. Declare another model in defs.yaml (`batch-pipeline bakeoff` compares them); "
                "loads that were sent before can still be collected and exported."
            )


def retiring_soon(workload: Workload, settings: Settings) -> list[str]:
    """A sentence for each tier whose model retires within 60 days."""
    table = load_prices(settings.prices)
    said = []
    for position, tier in enumerate(workload.spec.tiers):
        retires = table.facts(tier.model).retires
        if retires is not None and today() < retires <= today() + _SOON:
            days = (retires - today()).days
            said.append(
                f"tiers[{position}].model {tier.model} retires on {retires}, in {days} day{'' if days == 1 else 's'}; "
                "from then on nothing is sent to it."
            )
    return said
