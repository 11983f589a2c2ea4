"""What a load cost, end to end: from the usage that the API reports to US dollars."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from batch_pipeline.claude.prices import load_prices, price_for
from batch_pipeline.rows.query import querying
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.load_tables import paid_for
from batch_pipeline_tests.night import SONNET, Night, account_of

# Above the model's least cacheable prefix, so that every category of tokens is billed.
SYSTEM = "Say what the question is about. " * 300


@pytest.mark.parametrize(("geo", "times"), [("global", Decimal(1)), ("us", Decimal("1.1"))])
def test_inference_in_the_us_costs_a_tenth_more_in_every_category(
    geo: str, times: Decimal, simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    """Against the simulator's own account of the tokens that it billed, which knows nothing of prices."""
    simulator = simulate(cache_hit_rate=1)
    made = night(
        tiers=[{"model": SONNET, "max_tokens": 64, "inference_geo": geo}],
        prompt={"system": SYSTEM, "user": "{{ text }}", "cache": "5m"},
    )
    made.settle()
    record = made.context.record()
    day = record.created_at.date()
    with querying(made.context.scratch) as connection:
        spend = paid_for(made.context, record).measure(
            connection, load_prices(made.context.settings.prices), day
        )
    (billed,) = account_of(simulator)["tokens"].values()
    assert billed["cache_write_5m"] > 0 and billed["cache_read"] > 0
    assert spend.tokens == {kind: billed.get(kind, 0) for kind in spend.tokens}
    price = price_for(SONNET, day, batch=True)
    usd = {
        kind: price.cost(**{f"{kind}_tokens": billed.get(kind, 0)}) * times for kind in spend.usd
    }
    assert spend.usd == pytest.approx({kind: float(each) for kind, each in usd.items()}, rel=1e-12)
    assert spend.total_usd == pytest.approx(float(sum(usd.values())), rel=1e-12)
