"""How a row becomes a request of a tier: one function from its columns to the element of the batch's body."""

from collections.abc import Callable, Mapping
from typing import Any

from batch_pipeline.claude.encode import RequestTemplate
from batch_pipeline.stages.plan import LoadPlan
from batch_pipeline.workload.workload import Workload

RowRequest = Callable[[str, Mapping[str, Any]], bytes]


def row_requests(workload: Workload, tier: int, plan: LoadPlan) -> RowRequest:
    """A function from a custom_id and a row's prompt columns to its request, as bytes of JSON.

    It raises what a template may raise at a row: anything.
    """
    return request_maker(workload, tier, plan.tiers[tier].cache, plan.head_parts)


def request_maker(workload: Workload, tier: int, cache: str, head_parts: int) -> RowRequest:
    """As `row_requests`; `cache` is none, 5m or 1h, and `head_parts` of the user message are cached with it."""
    prompt, declared = workload.prompt, workload.spec.tiers[tier]
    varying = bool(prompt.system_columns)
    render_system = prompt.render_system
    template = RequestTemplate(
        model=declared.model,
        max_tokens=declared.max_tokens,
        system=None if varying or render_system is None else render_system({}),
        cache=cache,
        answer_schema=workload.contract.api_schema(),
        effort=declared.effort,
        thinking=declared.thinking,
        inference_geo=declared.inference_geo,
        varying_system=varying,
    )
    if cache == "none" or not head_parts:
        user = prompt.render

        def plain(custom_id: str, columns: Mapping[str, Any]) -> bytes:
            system = render_system(columns) if varying and render_system else None
            return template.request(custom_id, user(columns), system=system)

        return plain
    in_two = prompt.render_in_two(head_parts)

    def split(custom_id: str, columns: Mapping[str, Any]) -> bytes:
        head, rest = in_two(columns)
        system = render_system(columns) if varying and render_system else None
        return template.request(custom_id, rest, head=head, system=system)

    return split
