"""A bake-off in sentences, and as one JSON object."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from batch_pipeline.bakeoff.outcomes import BakeoffResult
from batch_pipeline.measure.bakeoff import FEW_ROWS, Candidate, Comparison, Ranking
from batch_pipeline.measure.rates import Rate
from batch_pipeline.report.interval import wilson
from batch_pipeline.report.wording import percent, plain, plural, usd


def sentences(result: BakeoffResult) -> list[str]:
    """What it showed, the decision first; then what it cannot show."""
    ranking = result.ranking
    return [
        _decision(ranking),
        _cascade(ranking),
        *_same_as_alone(ranking),
        *(
            f"{each.name} does not pass: {'; '.join(each.objections)}{_in_its_words(result, each)}."
            for each in ranking.models
            if not each.passes
        ),
        *_differences(ranking),
        _power(ranking),
        *_reservations(result),
        *result.bakeoff.said,
    ]


def _in_its_words(result: BakeoffResult, one: Candidate) -> str:
    said = result.refusals.get(one.models[0]) if len(one.models) == 1 else None
    return f": {said}" if said else ""


def _decision(ranking: Ranking) -> str:
    if ranking.chosen is None:
        return (
            f"No model passes; the best is {ranking.reference.name}, {_score(ranking.reference)}."
        )
    chosen = ranking.chosen
    return (
        f"The cheapest model that passes is {chosen.name}: {dollars(chosen.usd_per_good_row)} per good row, "
        f"{_score(chosen)}."
    )


def _cascade(ranking: Ranking) -> str:
    best = ranking.chosen_cascade
    if best is None:
        if not any(each.escalated for each in ranking.cascades):
            return (
                "No cascade of two differs from its first model: no golden row goes on to a second."
            )
        return "No cascade of two passes."
    said = (
        f"Of the cascades in which a golden row goes on, the cheapest that passes is {best.name}: {dollars(best.usd_per_good_row)} per good row, "
        f"{_score(best)}; {best.escalated:,} of {best.rows:,} rows ({percent(best.escalated / best.rows, 1)}) go on "
        f"to {best.models[1]}"
    )
    chosen = ranking.chosen
    if chosen is None:
        return f"{said}."
    mine, alone = best.usd_per_good_row, chosen.usd_per_good_row
    assert mine is not None and alone is not None
    word = "dearer than" if mine > alone else "cheaper than" if mine < alone else "as dear as"
    return f"{said}. It is {word} {chosen.name} by itself, and leaves {_left(best)} without a good answer where that leaves {chosen.rows - chosen.valid:,}."


def _same_as_alone(ranking: Ranking) -> Iterator[str]:
    if not any(each.escalated for each in ranking.cascades):
        return  # the sentence before says it of all
    # Where a row goes on depends on the first model only.
    for name in dict.fromkeys(each.models[0] for each in ranking.cascades if not each.escalated):
        yield (
            f"No golden row of {name} goes on to a second model: on these rows a cascade that begins with it is "
            f"{name} by itself, as good and at the same cost, and is not chosen."
        )


def _left(one: Candidate) -> str:
    return plural(one.rows - one.valid, "row")


def _differences(ranking: Ranking) -> Iterator[str]:
    name = ranking.reference.name
    for each in ranking.comparisons:
        rows = (
            f"it has {plural(each.lost, 'row')} wrong that {name} has right, and {each.won:,} right that "
            f"{name} has wrong"
        )
        if each.could_be_chance:
            yield f"These golden rows cannot tell {each.model} from {name}: {rows} (p = {_p(each)}), as chance may have it."
        else:
            word = "worse" if each.lost > each.won else "better"
            yield f"{each.model} is {word} than {name} by more than chance: {rows} (p = {_p(each)})."


def _power(ranking: Ranking) -> str:
    rows, least = ranking.reference.rows, ranking.smallest_difference
    if least is None:
        return f"{plural(rows, 'golden row')} cannot tell any two models apart with certainty; add golden rows."
    return (
        f"With {plural(rows, 'golden row')}, a true difference in score of less than {least * 100:.1f} points is "
        "missed more often than one time in five, even where the models agree on nearly all rows."
    )


def _reservations(result: BakeoffResult) -> Iterator[str]:
    ranking = result.ranking
    rows = ranking.reference.rows
    if rows < FEW_ROWS:
        yield (
            f"{plural(rows, 'golden row')} are few: one row is {100 / rows:.1f} points. Have {FEW_ROWS} or more "
            "before money depends on it."
        )
    for each in ranking.models:
        if each.unanswered and not each.refused_by_api:
            kinds = ", ".join(
                f"{n:,} {plain(outcome)}"
                for outcome, n in sorted(each.outcomes.items())
                if outcome not in ("valid", "contract_broken", "refusal", "truncated")
            )
            yield f"{each.name} left {plural(each.unanswered, 'row')} without an answer ({kinds}); they count as wrong."
    chosen = ranking.chosen
    if chosen is not None and result.usual_rows is not None:
        yield (
            f"A load of {result.usual_rows:,} rows, the usual size, would cost about "
            f"{dollars(chosen.usd_per_row * result.usual_rows)} with {chosen.name}, if its rows are like the golden ones."
        )
    yield f"Held against {result.baseline}."


def status(one: Candidate, ranking: Ranking) -> str:
    """A candidate's word in the table."""
    if not one.passes:
        return "does not pass"
    if one is ranking.chosen:
        return "cheapest"
    if one is ranking.chosen_cascade:
        return "cheapest where a row goes on"
    if len(one.models) > 1 and not one.escalated:
        return "as its first model alone"
    return "passes"


def markdown(result: BakeoffResult) -> str:
    """The candidates as a table."""
    head = ("candidate", "score", "validity", "per good row", "spent", "")
    lines = [f"| {' | '.join(head)} |", "|---|---:|---:|---:|---:|---|"]
    ranking = result.ranking
    for one in (*ranking.models, *ranking.cascades):
        cells = (
            one.name,
            percent(one.score, 1),
            percent(one.validity.value, 1),
            dollars(one.usd_per_good_row),
            dollars(one.usd),
            status(one, ranking) if one.passes else "; ".join(one.objections),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def to_json(result: BakeoffResult) -> dict[str, Any]:
    """Plain numbers: shares, US dollars, None where unknown."""
    ranking = result.ranking
    return {
        "workload": result.bakeoff.workload.name,
        "bakeoff": result.bakeoff.bakeoff_id,
        "finished": True,
        "sent_at": result.sent_at.isoformat(timespec="seconds"),
        "golden_rows": ranking.reference.rows,
        "baseline": {"score": float(result.accepted.share), "is": result.baseline},
        "usual_rows": result.usual_rows,
        "models": [_candidate(each, result.usual_rows) for each in ranking.models],
        "cascades": [_candidate(each, result.usual_rows) for each in ranking.cascades],
        "chosen": ranking.chosen and ranking.chosen.name,
        "chosen_cascade": ranking.chosen_cascade and list(ranking.chosen_cascade.models),
        "compared_with": ranking.reference.name,
        "comparisons": [
            {
                "model": each.model,
                "lost": each.lost,
                "won": each.won,
                "p": each.p,
                "could_be_chance": each.could_be_chance,
                "smallest_difference": each.smallest_difference,
            }
            for each in ranking.comparisons
        ],
        "smallest_difference": ranking.smallest_difference,
        "says": sentences(result),
    }


def _candidate(one: Candidate, usual_rows: int | None) -> dict[str, Any]:
    name = {"model": one.name} if len(one.models) == 1 else {"models": list(one.models)}
    good, right = one.usd_per_good_row, one.usd_per_correct_row
    return {
        **name,
        "passes": one.passes,
        "objections": list(one.objections),
        "score": one.score,
        "score_interval": interval(Rate(one.correct, one.rows)),
        "correct": one.correct,
        "validity": one.validity.value,
        "validity_interval": interval(one.validity),
        "valid": one.valid,
        "outcomes": one.outcomes,
        "escalated": one.escalated,
        "verdict": one.verdict.value,
        "cost_usd": float(one.usd),
        "cost_per_good_row_usd": None if good is None else float(good),
        "cost_per_correct_row_usd": None if right is None else float(right),
        "mean_output_tokens": one.mean_output_tokens,
        "usual_load_usd": None if usual_rows is None else float(one.usd_per_row * usual_rows),
    }


def _score(one: Candidate) -> str:
    return (
        f"score {percent(one.score, 1)} ({between(Rate(one.correct, one.rows))}), "
        f"validity {percent(one.validity.value, 1)}"
    )


def interval(rate: Rate) -> tuple[float, float]:
    """The 95% interval of a share, where nothing hides behind the last digit of a float."""
    low, high = wilson(rate.numerator, rate.denominator)
    return round(low, 9), round(high, 9)


def between(rate: Rate) -> str:
    low, high = interval(rate)
    return f"{percent(low, 1)} to {percent(high, 1)}"


def _p(one: Comparison) -> str:
    return f"{one.p:.2g}" if one.p >= 0.001 else "<0.001"


def dollars(amount: Decimal | None) -> str:
    """An exact amount, as the pages write amounts."""
    return usd(None if amount is None else float(amount))
