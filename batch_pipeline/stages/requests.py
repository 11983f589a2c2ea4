"""How rows become requests of a tier: elements of the batch's body, all alike but for what varies by row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from batch_pipeline.claude.encode import RequestTemplate
from batch_pipeline.stages.plan import LoadPlan
from batch_pipeline.workload.workload import Workload

RowRequest = Callable[[str, Mapping[str, Any]], bytes]
_VaryingPart = Callable[[Mapping[str, Any]], bytes]


@dataclass(frozen=True)
class TierRequests:
    """How the rows of a tier become requests: `template`, and what varies in it, of a row's prompt columns.

    `varying` raises what a template may raise at a row: anything. `by_user_message` is whether nothing varies
    but the user message as it is, so that whoever has that needs no columns.
    """

    template: RequestTemplate
    varying: _VaryingPart
    by_user_message: bool


def tier_requests(workload: Workload, tier: int, plan: LoadPlan) -> TierRequests:
    """The requests of a tier, as the load's plan has them cached."""
    return _tier_requests(workload, tier, plan.tiers[tier].cache, plan.head_parts)


def request_maker(workload: Workload, tier: int) -> RowRequest:
    """A function from a custom_id and a row's prompt columns to its request, uncached, as bytes of JSON.

    It raises what a template may raise at a row: anything.
    """
    made = _tier_requests(workload, tier, "none", 0)
    return lambda custom_id, columns: made.template.request_of(custom_id, made.varying(columns))


def _tier_requests(workload: Workload, tier: int, cache: str, head_parts: int) -> TierRequests:
    prompt, declared = workload.prompt, workload.spec.tiers[tier]
    system_varies = bool(prompt.system_columns)
    render_system = prompt.render_system
    template = RequestTemplate(
        model=declared.model,
        max_tokens=declared.max_tokens,
        system=None if system_varies or render_system is None else render_system({}),
        cache=cache,
        answer_schema=workload.contract.api_schema(),
        effort=declared.effort,
        thinking=declared.thinking,
        inference_geo=declared.inference_geo,
        varying_system=system_varies,
    )
    in_two = prompt.render_in_two(head_parts) if cache != "none" and head_parts else None
    user = prompt.render

    def varying(columns: Mapping[str, Any]) -> bytes:
        system = render_system(columns) if system_varies and render_system else None
        if in_two is None:
            return template.varying(user(columns), system=system)
        head, rest = in_two(columns)
        return template.varying(rest, head=head, system=system)

    return TierRequests(template, varying, not system_varies and in_two is None)
