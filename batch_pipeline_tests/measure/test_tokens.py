import pytest

from batch_pipeline.measure.tokens import (
    guessed_output,
    guessed_tokens,
    thinks_unasked,
    tokenizer_factor,
)
from batch_pipeline.workload.contract import Contract


@pytest.mark.parametrize(
    ("model", "factor", "thinks"),
    [
        ("claude-haiku-4-5", 1.0, False),
        ("claude-haiku-4-5-20251001", 1.0, False),
        ("claude-opus-4-6", 1.0, False),
        ("claude-opus-4-7", 1.3, False),
        ("claude-haiku-5-5", 1.3, True),
        ("claude-fable-5", 1.3, True),
        ("a-model-of-tomorrow", 1.3, True),
    ],
)
def test_newer_models_make_more_tokens_of_a_text_and_think(
    model: str, factor: float, thinks: bool
) -> None:
    assert (tokenizer_factor(model), thinks_unasked(model)) == (factor, thinks)


def test_a_guess_has_wide_bounds() -> None:
    guess = guessed_tokens(3_500, "claude-haiku-4-5")
    assert (guess.low, guess.mean, guess.high) == (700, 1_000, 1_750)


def test_an_answer_is_as_long_as_its_contract_and_at_most_max_tokens() -> None:
    contract = Contract.from_declaration(
        {"label": {"type": "string", "enum": ["yes", "no"]}, "why": {"type": "string"}}
    )
    guess = guessed_output(contract, "claude-haiku-4-5", 512, thinks=False)
    assert 50 < guess.mean < 100
    assert guess.high == 512
    assert guessed_output(contract, "claude-haiku-5-5", 64, thinks=True).mean == 64
