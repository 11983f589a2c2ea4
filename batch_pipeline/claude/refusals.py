"""What the API says when it does not do what it is asked: sentences, waiting times, spend limits."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
# A month: spend limits last until the next one. What asks for longer is no waiting time.
_LONGEST_WAIT = 31 * 86_400.0


def refusal(error: Exception) -> str:
    """What the API answered, in a sentence."""
    status = getattr(error, "status_code", "?")
    code, wait = _error_code(error), retry_after(error)
    return (
        f"The API answered {status}: {short(error)}{f' [{code}]' if code else ''}{request_id_of(error)}"
        + (f"; it asks to wait {wait:,.0f} s" if wait else "")
        + "."
    )


# The limits on spending that the API documents: two by their code, one by its sentence.
_SPEND_CODES = frozenset(
    {
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
    }
)


def is_spend_limit(error: Exception) -> bool:
    """A refusal that lasts until somebody raises a limit, or the month ends."""
    return _error_code(error) in _SPEND_CODES or "usage limits" in short(error)


def _error_code(error: Exception) -> str | None:
    body = getattr(error, "body", None)
    detail = body.get("error") if isinstance(body, dict) else None
    more = detail.get("details") if isinstance(detail, dict) else None
    code = more.get("error_code") if isinstance(more, dict) else None
    return code if isinstance(code, str) else None


def retry_after(error: Exception) -> float | None:
    """The header as seconds: it holds a number or a date."""
    text = getattr(getattr(error, "response", None), "headers", {}).get("retry-after")
    if not text:
        return None
    with suppress(ValueError):
        seconds = float(text)
        return min(seconds, _LONGEST_WAIT) if 0 <= seconds < float("inf") else None
    with suppress(ValueError, TypeError):
        seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        return min(max(seconds, 0.0), _LONGEST_WAIT)
    return None


def short(error: Exception) -> str:
    """The API's own words, on one line."""
    body = getattr(error, "body", None)
    detail = body.get("error") if isinstance(body, dict) else None
    message = detail.get("message") if isinstance(detail, dict) else None
    text = " ".join(str(message or error).split())
    for name in _KEYS:
        # A gateway may quote what it was given; this text is kept and logged.
        if key := os.environ.get(name, "").strip():
            text = text.replace(key, f"[{name}]")
    return text[:300].rstrip(".")


def request_id_of(error: Exception) -> str:
    """The request's id in brackets, for the API's support; nothing where there is none."""
    request_id = getattr(error, "request_id", None)
    return f" (request {request_id})" if request_id else ""
