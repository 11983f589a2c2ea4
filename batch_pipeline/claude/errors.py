"""How a call to the API may fail, by what can be concluded from it."""

from batch_pipeline.errors import PipelineError


class LaterError(PipelineError):
    """`retry_after` is the number of seconds that the API asks to be left alone, where it does."""

    def __init__(self, sentence: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class NotCreatedError(PipelineError):
    """The API refused a create call for good, so nothing was charged: a person must mend something."""


class NotNowError(LaterError):
    """A create call certainly took no effect, and may be accepted later: too many calls, a full queue."""


class UnresolvedError(LaterError):
    """Nobody knows whether the API accepted a create call."""


class UnreachableError(LaterError):
    """The API did not give a usable answer just now; the same call may succeed later."""
