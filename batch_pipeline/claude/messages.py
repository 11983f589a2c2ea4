"""The Messages API, one request at a time: sent once, and its answer as a batch's results would have it."""

from typing import Any

import orjson

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import NotCreatedError, NotNowError
from batch_pipeline.claude.refusals import is_spend_limit, refusal, retry_after, short
from batch_pipeline.claude.same_origin import ForeignHostError

# About this one request: the others may be fine.
_OF_THE_REQUEST = frozenset({400, 413, 422})
# The API has begun no work.
_TOO_MUCH = frozenset({429, 529})
# The API's 400 when an organization has run out of prepaid credit; no other request would be taken either.
_NO_CREDIT = "Your credit balance is too low"
# A process that ended while it waited for the answer.
INTERRUPTED = "interrupted"
# Nobody knows whether a synchronous request that ended so was answered, and paid.
LOST = ("api_error", "timeout_error", INTERRUPTED)


class MessagesApi(BatchesApi):
    """The same API by the same key, with the call that is answered at once. Safe in several threads."""

    def __init__(self, timeout: float | None = None) -> None:
        """`timeout` is in seconds; by default the SDK's: 10 minutes for an answer, 5 s for a connection."""
        super().__init__()
        if timeout is not None:
            self._client = self._client.with_options(timeout=timeout)

    def answer(self, params: bytes) -> bytes:
        """Sends one request once, and returns its result in the form of a batch's results.

        That is `{"type":"succeeded","message":…}`, the message as it came, or `{"type":"errored","error":…}`:
        of type invalid_request_error where the API refused the request, and api_error or timeout_error where
        nobody knows whether it was answered, and paid.

        Args:
            params: JSON, sent byte for byte.

        Raises:
            NotNowError: certainly not answered and not paid; the API has no room, or cannot be reached.
            NotCreatedError: neither, and no other request would be until a person mends something.
        """
        import httpx2
        from anthropic import APIConnectionError, APIStatusError, APITimeoutError

        try:
            response = self._client.post(
                "/v1/messages",
                cast_to=httpx2.Response,
                content=params,
                # Sent again by the SDK, a request whose answer was lost would be paid twice.
                options={
                    "max_retries": 0,
                    "follow_redirects": False,
                    "headers": {"content-type": "application/json"},
                },
            )
            return _succeeded(response.content)
        except APIStatusError as error:
            return _refused(error)
        except APIConnectionError as error:
            cause = error.__cause__
            if isinstance(cause, ForeignHostError):
                raise NotCreatedError(str(cause)) from None
            # A connection that was kept open counts as made, and an answer that it lost as paid.
            if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
                raise NotNowError(
                    "No connection to the API could be made, so nothing was sent; "
                    "check the network and ANTHROPIC_BASE_URL."
                ) from None
            kind = "timeout_error" if isinstance(error, APITimeoutError) else "api_error"
            return errored(kind, f"the answer was lost ({type(cause or error).__name__})")


def is_lost(result: bytes) -> bool:
    """Whether `answer` does not know what became of the request."""
    return result.startswith(tuple(errored(kind, "").partition(b',"message"')[0] for kind in LOST))


def _succeeded(content: bytes) -> bytes:
    try:
        message: Any = orjson.loads(content)
    except ValueError:
        message = None
    if not isinstance(message, dict) or message.get("type") != "message":
        return errored("api_error", "the answer could not be read")
    # Line ends stand between tokens only, where JSON takes a blank as well; a result is one line.
    line = content.strip().replace(b"\n", b" ").replace(b"\r", b" ")
    return b'{"type":"succeeded","message":' + line + b"}"


def _refused(error: Any) -> bytes:
    """The result where the refusal is about this request alone; raises where it is not."""
    status: int = error.status_code
    if is_spend_limit(error) or short(error).startswith(_NO_CREDIT):
        raise NotCreatedError(refusal(error)) from None
    wait = retry_after(error)
    if status in _TOO_MUCH or (status == 503 and wait is not None):
        raise NotNowError(refusal(error), wait) from None
    if status in _OF_THE_REQUEST:
        return errored("invalid_request_error", short(error))
    if status >= 500 or status in (408, 409):
        return errored("timeout_error" if status in (408, 504) else "api_error", short(error))
    raise NotCreatedError(refusal(error)) from None


def errored(kind: str, message: str) -> bytes:
    """The result of a request that went wrong, in the form of a batch's results."""
    return orjson.dumps(
        {
            "type": "errored",
            "error": {"type": "error", "error": {"type": kind, "message": message}},
        }
    )
