"""A webhook, and one that Slack understands: one POST of JSON each.

Addresses and headers are secrets: they go to that address only, redirects are not followed, and neither
errors nor logs hold more than the host.
"""

import contextvars
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from batch_pipeline import __version__
from batch_pipeline.alerts.message import TEST, Channel, Message, UndeliveredError

# Slack cuts a text off at 40,000 characters, and a phone much earlier.
_MOST_CHARACTERS = 3_000
_LONGEST_RETRY_AFTER = timedelta(days=1)
# These say that the message is not liked; another one may be.
_REFUSED = frozenset({400, 406, 409, 413, 415, 422})

_posting = contextvars.ContextVar("_posting", default=False)


def _not_ours(_record: logging.LogRecord) -> bool:
    return not _posting.get()


# It logs each request's whole address.
logging.getLogger("httpx2").addFilter(_not_ours)


class Webhook(Channel):
    """Message.to_json as the body, and the delivery_id as Idempotency-Key."""

    def __init__(self, address: str, headers: Mapping[str, str], timeout_seconds: float) -> None:
        self._address = address
        self._headers = headers
        self._timeout = timeout_seconds

    def send(self, message: Message, *, again: bool) -> str:  # noqa: ARG002
        headers = {**self._headers, "Idempotency-Key": message.delivery_id}
        return _post(self._address, message.to_json(), headers, self._timeout)


class Slack(Channel):
    """A `text` in Slack's mrkdwn."""

    def __init__(self, address: str, timeout_seconds: float) -> None:
        self._address = address
        self._timeout = timeout_seconds

    def send(self, message: Message, *, again: bool) -> str:  # noqa: ARG002
        mark = {TEST: ":wrench:", "resolved": ":white_check_mark:"}.get(
            message.event,
            ":rotating_light:" if message.severity == "page" else ":information_source:",
        )
        text = f"{mark} *{escaped(message.headline)}*\n{escaped(message.sentence)}"
        text = text[:_MOST_CHARACTERS]
        if message.link:
            text += f"\n<{escaped(message.link)}|Open in Dagster>"
        headers = {"Idempotency-Key": message.delivery_id}
        return _post(self._address, {"text": text, "unfurl_links": False}, headers, self._timeout)


def escaped(text: str) -> str:
    """As Slack asks for it: else `<!channel>` in a text would wake everybody up."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _post(address: str, body: Any, headers: Mapping[str, str], timeout: float) -> str:
    token = _posting.set(True)
    try:
        host = httpx2.URL(address).host
        with (
            httpx2.Client(timeout=timeout, follow_redirects=False) as client,
            client.stream(
                "POST",
                address,
                json=body,
                headers={"User-Agent": f"batch-pipeline/{__version__}", **headers},
            ) as response,
        ):
            # The body is not read: its length is the receiver's choice, and the status says enough.
            status, answered = response.status_code, response.headers
    except httpx2.TimeoutException:
        raise UndeliveredError(f"{host} did not answer within {timeout:g} s.") from None
    except (httpx2.TransportError, OSError) as error:
        raise UndeliveredError(f"{host} could not be reached ({type(error).__name__}).") from None
    except (httpx2.InvalidURL, ValueError, TypeError):
        # Their own texts may quote the address or a header.
        raise UndeliveredError(
            "the address or a header cannot be used; look for a stray character."
        ) from None
    finally:
        _posting.reset(token)
    if 200 <= status < 300:
        return f"{host} answered {status}"
    if 300 <= status < 400:
        raise UndeliveredError(
            f"{host} answered {status}, a redirect, which is not followed since the address is a secret; give "
            "the address that it leads to."
        )
    raise UndeliveredError(
        f"{host} answered {status}.",
        whole_channel=status not in _REFUSED,
        retry_after=_retry_after(answered.get("retry-after")),
    )


def _retry_after(text: str | None) -> timedelta | None:
    """RFC 9110: seconds, or a date."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        wait = timedelta(seconds=min(int(text[:9]), _LONGEST_RETRY_AFTER.total_seconds()))
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        wait = moment - datetime.now(UTC)
    return min(max(wait, timedelta()), _LONGEST_RETRY_AFTER)
