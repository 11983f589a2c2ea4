"""How a row becomes a request of a tier: one function from its columns to the element of the batch's body."""

from collections.abc import Callable, Mapping
from typing import Any

from batch_pipeline.claude.encode import RequestTemplate
from batch_pipeline.stages.context import LoadContext

RowRequest = Callable[[str, Mapping[str, Any]], bytes]


def row_requests(context: LoadContext, tier: int) -> RowRequest:
    """A function from a custom_id and a row's prompt columns to its request, as bytes of JSON.

    It raises what a template may raise at a row: anything.
    """
    prompt = context.workload.prompt
    declared = context.workload.spec.tiers[tier]
    template = RequestTemplate(
        model=declared.model,
        max_tokens=declared.max_tokens,
        system=prompt.system,
        cache="none" if prompt.cache == "auto" else prompt.cache,
        answer_schema=context.workload.contract.api_schema(),
        effort=declared.effort,
        thinking=declared.thinking,
        inference_geo=declared.inference_geo,
    )
    return lambda custom_id, columns: template.request(custom_id, prompt.render(columns))
