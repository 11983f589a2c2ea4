"""How long to leave the API alone before the same thing is tried again."""

from datetime import datetime, timedelta

from batch_pipeline.claude.errors import LaterError
from batch_pipeline.ledger.transactions import now
from batch_pipeline.settings import Settings

# In polling intervals: at the default of 30 s, from one minute to a quarter of an hour.
_FIRST, _LAST = 2, 30


def try_again_at(settings: Settings, error: LaterError | None, tries: int) -> datetime:
    """The moment of the next try: as the API asks, and else later each time.

    Args:
        settings: their polling interval is the unit.
        error: what the API said; its `retry_after` is honoured whatever its length.
        tries: how often it was tried in vain before.
    """
    if error is not None and error.retry_after is not None:
        return now() + timedelta(seconds=error.retry_after)
    intervals = min(_FIRST * 2 ** min(tries, 10), _LAST)
    return now() + timedelta(seconds=intervals * settings.poll_seconds)
