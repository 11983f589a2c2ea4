"""Why a good row costs more or less than on another night: the difference, split into causes that add up to it.

The spend on a good row is a product of simple things, put one after the other from the reference's value to
tonight's; what each step changes is that cause's effect. In this order, each with what was put before it:

1. volume: as many rows as tonight, so fixed costs are spread over more or fewer: the golden rows, and cache
   writes as far as their share moved the way that a fixed number of them explains.
2. yield: good rows per source row.
3. difficulty: requests per source row at each tier (escalations, retries; rows that are asked once or reused),
   tokens of a prompt, of its shared prefix, of an answer.
4. caching: the share of requests with a cached prefix, the share of it that is written, and for how long.
5. price: what a token of each kind costs at each tier: the price table, the model, the lane.

What was paid twice, or for an earlier sending of the same load, is a cause of its own, `again`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from batch_pipeline.measure.savings import INPUTS, PRODUCTION, WRITES, CostLine
from batch_pipeline.measure.spend import TOKENS

CAUSES = ("volume", "yield", "difficulty", "caching", "price", "again")
_AGAIN = ("paid_twice", "resent")


@dataclass(frozen=True)
class NightCosts:
    """The costs of a load with so many source rows, of which so many were validated."""

    rows: int
    good: int
    lines: Sequence[CostLine]


@dataclass(frozen=True)
class CostChange:
    """US dollars for a good row, exactly: `tonight` is `before` and all `effects`, by cause."""

    before: Fraction
    tonight: Fraction
    effects: dict[str, Fraction]

    @property
    def share(self) -> float:
        return float(self.tonight / self.before - 1)

    def shares(self) -> dict[str, float]:
        """Each effect as a share of the cost before."""
        return {cause: float(effect / self.before) for cause, effect in self.effects.items()}


def split(before: NightCosts, tonight: NightCosts) -> CostChange | None:
    """The change of the cost of a good row, by cause; None where either night has no good row or no cost."""
    if not all(night.rows and night.good for night in (before, tonight)):
        return None
    old, new = _groups(before), _groups(tonight)
    for key in {*old, *new}:
        old[key], new[key] = _completed(old.get(key), new.get(key))
    again = [Fraction(_usd(night.lines, _AGAIN)) / night.good for night in (before, tonight)]
    first = _cost(old, before.good)
    if not first + again[0]:
        return None
    grown = Fraction(tonight.rows, before.rows)
    at: dict[_Key, _Requests] = {}
    costs = [first]

    # Volume: production grows with the rows, the golden set does not.
    for key, group in old.items():
        many = group.requests * grown if not key[0] else _golden(key, old, new)
        at[key] = replace(group, requests=many, written=_fixed(group, new[key], many))
    costs.append(_cost(at, before.good * grown))
    costs.append(_cost(at, Fraction(tonight.good)))
    for key, group in new.items():
        at[key] = replace(
            at[key],
            requests=group.requests,
            prompt=group.prompt,
            prefix=group.prefix,
            answer=group.answer,
        )
    costs.append(_cost(at, tonight.good))
    for key, group in new.items():
        at[key] = replace(at[key], cached=group.cached, written=group.written, brief=group.brief)
    costs.append(_cost(at, tonight.good))
    costs.append(_cost(new, tonight.good))

    steps = [after - earlier for earlier, after in pairwise(costs)]
    effects = dict(zip(CAUSES, [*steps, again[1] - again[0]], strict=True))
    return CostChange(first + again[0], costs[-1] + again[1], effects)


# Golden or not, and the tier.
_Key = tuple[bool, int]


@dataclass(frozen=True)
class _Requests:
    """Requests of one kind at one tier, by what their price is made of. None: nothing to tell it from.

    prompt, answer: tokens of a request. prefix: of a request that uses the cache, the tokens so used.
    cached: the share of requests that use it. written: of such tokens, those that are written; brief: of
    those, for five minutes. rates: USD of a token by kind.
    """

    requests: Fraction
    prompt: Fraction | None
    answer: Fraction | None
    prefix: Fraction | None
    cached: Fraction | None
    written: Fraction | None
    brief: Fraction | None
    rates: dict[str, Fraction | None]


def _groups(night: NightCosts) -> dict[_Key, _Requests]:
    found: dict[_Key, list[CostLine]] = {}
    for line in night.lines:
        if line.part == "golden" or line.part in PRODUCTION:
            found.setdefault((line.part == "golden", line.tier), []).append(line)
    return {key: _group(lines) for key, lines in found.items() if any(n.requests for n in lines)}


def _group(lines: Sequence[CostLine]) -> _Requests:
    tokens = {kind: sum(line.tokens[kind] for line in lines) for kind in TOKENS}
    requests = sum(line.requests for line in lines)
    cached = sum(line.cached_requests for line in lines)
    written = sum(tokens[kind] for kind in WRITES)
    used = written + tokens["cache_read"]
    return _Requests(
        Fraction(requests),
        prompt=Fraction(sum(tokens[kind] for kind in INPUTS), requests),
        answer=Fraction(tokens["output"], requests),
        prefix=Fraction(used, cached) if cached else None,
        cached=Fraction(cached, requests),
        written=Fraction(written, used) if used else None,
        brief=Fraction(tokens["cache_write_5m"], written) if written else None,
        rates={
            kind: Fraction(sum((Fraction(line.usd[kind]) for line in lines), Fraction(0))) / n
            if (n := tokens[kind])
            else None
            for kind in TOKENS
        },
    )


def _completed(old: _Requests | None, new: _Requests | None) -> tuple[_Requests, _Requests]:
    """Both, with what one night cannot tell taken from the other: what is not known is no cause."""
    if old is None or new is None:
        one = old or new
        assert one is not None
        none = replace(one, requests=Fraction(0))
        one, none = _filled(one, none), _filled(none, one)
        return (one, none) if old is not None else (none, one)
    return _filled(old, new), _filled(new, old)


def _filled(one: _Requests, other: _Requests) -> _Requests:
    def known(name: str) -> Fraction:
        mine, theirs = getattr(one, name), getattr(other, name)
        value = mine if mine is not None else theirs
        return value if value is not None else Fraction(0)

    return replace(
        one,
        prompt=known("prompt"),
        answer=known("answer"),
        prefix=known("prefix"),
        cached=known("cached"),
        written=known("written"),
        brief=known("brief"),
        rates={kind: _rate(kind, one, other) for kind in TOKENS},
    )


def _rate(kind: str, one: _Requests, other: _Requests) -> Fraction:
    """A rate that was not paid stands to the others as it does on the other night."""
    mine = one.rates[kind]
    if mine is not None:
        return mine
    theirs = other.rates[kind]
    if theirs is None:
        return Fraction(0)
    for reference in ("input", "output"):
        here, there = one.rates[reference], other.rates[reference]
        if here and there:
            return theirs * here / there
    return theirs


def _golden(key: _Key, old: dict[_Key, _Requests], new: dict[_Key, _Requests]) -> Fraction:
    """Golden requests, when the golden set is tonight's and as many of it climb as on the other night."""
    bottom = (True, 0)
    if bottom in old and old[bottom].requests and new[bottom].requests:
        return old[key].requests * new[bottom].requests / old[bottom].requests
    return new[key].requests


def _fixed(old: _Requests, new: _Requests, requests: Fraction) -> Fraction:
    """The share of cached tokens that is written, moved towards tonight's as far as fixed writes explain."""
    assert old.written is not None
    assert new.written is not None
    if not requests or not old.requests:
        return old.written
    fixed = min(Fraction(1), old.written * old.requests / requests)
    return max(min(new.written, max(old.written, fixed)), min(old.written, fixed))


def _cost(groups: dict[_Key, _Requests], good: int | Fraction) -> Fraction:
    return sum((group.requests * _price(group) for group in groups.values()), Fraction(0)) / good


def _price(group: _Requests) -> Fraction:
    """USD of a request."""
    rate = {kind: each or Fraction(0) for kind, each in group.rates.items()}
    prompt, written, brief = (
        each or Fraction(0) for each in (group.prompt, group.written, group.brief)
    )
    used = min((group.prefix or Fraction(0)) * (group.cached or Fraction(0)), prompt)
    write = brief * rate["cache_write_5m"] + (1 - brief) * rate["cache_write_1h"]
    cached = written * write + (1 - written) * rate["cache_read"]
    return (
        (prompt - used) * rate["input"]
        + used * cached
        + (group.answer or Fraction(0)) * rate["output"]
    )


def _usd(lines: Iterable[CostLine], parts: Sequence[str]) -> Fraction:
    return sum((Fraction(line.spent_usd) for line in lines if line.part in parts), Fraction(0))
