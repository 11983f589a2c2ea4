"""How many input tokens a load's requests have: counted by the API on a sample where it is asked, else guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.counting import count_all
from batch_pipeline.measure.estimate import MeanInterval, mean_interval
from batch_pipeline.measure.tokens import guessed_input, guessed_tokens, tokens_per_byte
from batch_pipeline.stages.shared_prefix import SharedPrefix
from batch_pipeline.stages.token_sample import text_bytes

COUNTED, GUESSED = "count_tokens", "guess"
# A count of fewer requests says less than the guess from all their bytes.
LEAST_COUNTED = 10


@dataclass(frozen=True)
class RequestTokens:
    """Input tokens of one model's requests: the shared `prefix`, and `own`, the rest of each.

    counted_by: count_tokens or guess. sampled: requests looked at. problem: why not all was counted that should
    have been.
    """

    prefix: int
    own: MeanInterval
    counted_by: str
    sampled: int
    problem: str | None = None


def measure_tokens(
    params: Sequence[Mapping[str, Any]],
    model: str,
    prefix: SharedPrefix,
    population: int,
    *,
    api: BatchesApi | None,
    count_rows: bool,
    minimum: int,
    more_bytes: float = 0.0,
) -> RequestTokens:
    """Counts or guesses.

    Args:
        params: of a random sample of the requests.
        model: that they go to; it stands in for the one that `params` name.
        prefix: what they begin with.
        population: how many requests there are in all.
        api: asked to count; None for a guess.
        count_rows: whether the sample is worth counting; the prefix is, where it may reach `minimum`.
        minimum: the shortest prefix that the model caches.
        more_bytes: by how much a request of the whole load is longer than one of the sample, on average.
    """
    asked = [{**each, "model": model} for each in params]
    sizes = [float(text_bytes(each)) for each in asked]
    if not asked:
        return RequestTokens(0, MeanInterval(0, 0, 0), GUESSED, 0, "no row could be rendered")
    of_bytes = _longer(mean_interval(sizes, population), more_bytes, more_bytes)
    guessed_prefix = guessed_tokens(len(prefix.text.encode()), model)
    shared, problem = round(guessed_prefix.mean), None
    if api is not None and guessed_prefix.high >= minimum:
        pair = count_all(api, _prefix_pair(asked[0], prefix))
        problem = pair.problem
        if problem is None:
            shared = max(pair.tokens[0] - pair.tokens[1], 0)
    if api is not None and count_rows and problem is None:
        counted = count_all(api, asked)
        problem = counted.problem
        if len(counted.tokens) >= min(LEAST_COUNTED, len(asked)):
            values = [float(tokens) for tokens in counted.tokens.values()]
            # A prefix that is only guessed must not come out longer than the requests that begin with it.
            shared = min(shared, int(min(values)))
            own = mean_interval([value - shared for value in values], population)
            if len(values) < population:
                # The bytes of all rows are known, so what the sample missed is not left to chance.
                each = tokens_per_byte(model)
                most = (each.high if more_bytes > 0 else each.low) * more_bytes
                own = _longer(own, each.mean * more_bytes, most)
            return RequestTokens(shared, own, COUNTED, len(values), problem)
    schema = len(orjson.dumps(asked[0].get("output_config") or {}))
    whole = guessed_input(of_bytes, schema, model)
    shared = min(shared, int(whole.mean))
    own = MeanInterval(
        whole.mean - shared, max(whole.low - shared, 0.0), max(whole.high - shared, 0.0)
    )
    return RequestTokens(shared, own, GUESSED, len(asked), problem)


def _longer(mean: MeanInterval, more: float, most: float) -> MeanInterval:
    """A mean corrected by so much, and by at most so much at its upper end."""
    return MeanInterval(
        max(mean.mean + more, 0.0), max(mean.low + min(more, 0.0), 0.0), max(mean.high + most, 0.0)
    )


def _prefix_pair(params: Mapping[str, Any], prefix: SharedPrefix) -> list[dict[str, Any]]:
    """The prefix with one letter after it, and the letter alone."""
    alone = {"model": params["model"], "messages": [{"role": "user", "content": "x"}]}
    whole = {**alone, "messages": [{"role": "user", "content": prefix.head + "x"}]}
    if prefix.system is not None:
        whole["system"] = [{"type": "text", "text": prefix.system}]
    return [whole, alone]
