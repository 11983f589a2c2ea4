"""The Message Batches API as the pipeline uses it: create once, look, download. All calls go through here.

The SDK's own retries are off everywhere. It would send a create call again whose answer was lost, and pay
twice; and it obeys a `retry-after` of an hour by sleeping in the worker. Callers come back later instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from batch_pipeline.errors import ConfigurationError, PipelineError

if TYPE_CHECKING:
    from anthropic import Anthropic
    from anthropic.types.messages import MessageBatch

# Answers to a create call after which the API certainly holds no batch. Everything else is ambiguous.
_REFUSALS = frozenset({400, 401, 402, 403, 404, 413, 422, 429})
_PAGE = 1000
_DOWNLOAD_BYTES = 1 << 20


class NotCreatedError(PipelineError):
    """The API refused a create call, so nothing was charged."""


class UnresolvedError(PipelineError):
    """Nobody knows whether the API accepted a create call."""


class UnreachableError(PipelineError):
    """The API did not give a usable answer just now; the same call may succeed later."""


@dataclass(frozen=True)
class BatchStatus:
    """What the API says of one batch. Counts are zero until it has ended."""

    batch_id: str
    request_id: str | None
    status: str
    requests: int
    succeeded: int
    errored: int
    canceled: int
    expired: int
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    archived: bool

    @property
    def ended(self) -> bool:
        return self.status == "ended"


class BatchesApi:
    """The API that ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL name."""

    def __init__(self) -> None:
        import anthropic
        from anthropic import AnthropicError

        try:
            self._client: Anthropic = anthropic.Anthropic(max_retries=0)
        except (AnthropicError, ValueError) as error:
            raise ConfigurationError(
                f"The Anthropic client cannot be set up: {_short(error)}"
            ) from None
        if not _has_credentials(self._client):
            raise ConfigurationError(
                "No API key: set ANTHROPIC_API_KEY, or start a simulator with `batch-pipeline simulate` "
                "and set ANTHROPIC_BASE_URL to the address it prints, with any key."
            )

    @property
    def address(self) -> str:
        """Where the calls go; shown beside what came back, so that nobody takes one API for another."""
        # Whatever stands before an @ is a credential.
        return str(self._client.base_url.copy_with(userinfo=b"")).rstrip("/")

    def check_access(self) -> None:
        """One cheap call, before anything is written or sent.

        Raises:
            ConfigurationError: no key, or one that the API refuses.
            UnreachableError: no answer.
        """
        from anthropic import APIStatusError

        try:
            with _answers():
                self._client.messages.batches.list(limit=1)
        except APIStatusError as error:
            if error.status_code in (401, 403):
                raise ConfigurationError(
                    f"The API refused the key ({error.status_code}): check ANTHROPIC_API_KEY and "
                    "ANTHROPIC_BASE_URL; nothing was sent."
                ) from None
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                raise UnreachableError(_refusal(error)) from None
            raise ConfigurationError(
                f"The address in ANTHROPIC_BASE_URL does not answer as the Message Batches API "
                f"({error.status_code}); nothing was sent."
            ) from None

    def create(self, body: Path) -> BatchStatus:
        """Sends a request body once, streamed from its file.

        Raises:
            NotCreatedError: the API refused it, or could not be reached at all.
            UnresolvedError: it may or may not have been accepted.
        """
        import httpx2
        from anthropic import APIConnectionError, APIStatusError
        from anthropic.types.messages import MessageBatch

        with body.open("rb") as content:
            try:
                batch = self._client.post(
                    "/v1/messages/batches",
                    cast_to=MessageBatch,
                    content=content,
                    options={"max_retries": 0, "headers": {"content-type": "application/json"}},
                )
                return _status(batch)
            except APIStatusError as error:
                if error.status_code in _REFUSALS:
                    raise NotCreatedError(_refusal(error)) from None
                raise UnresolvedError(
                    f"the create call was answered {error.status_code}{_request_id(error)}"
                ) from None
            except APIConnectionError as error:
                cause = type(error.__cause__ or error)
                if issubclass(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
                    raise NotCreatedError(
                        "No connection to the API could be made, so nothing was sent; "
                        "check the network and ANTHROPIC_BASE_URL."
                    ) from None
                raise UnresolvedError(
                    f"the answer to the create call was lost ({cause.__name__})"
                ) from None
            except Exception as error:
                # No byte was taken from the file: the SDK gave up by itself, before it sent anything.
                if not content.tell():
                    raise NotCreatedError(
                        f"The request could not be made ({_short(error)}), so nothing was sent."
                    ) from error
                # An answer that cannot be read is an answer that was lost.
                raise UnresolvedError(
                    f"the answer to the create call could not be read ({type(error).__name__})"
                ) from None

    def retrieve(self, batch_id: str) -> BatchStatus | None:
        """None where the API says that it knows no such batch. Raises UnreachableError."""
        from anthropic import APIStatusError, NotFoundError

        try:
            with _answers():
                return _status(self._client.messages.batches.retrieve(batch_id))
        except NotFoundError:
            return None
        except APIStatusError as error:
            raise UnreachableError(_refusal(error)) from None

    def statuses(self, batch_ids: set[str], since: datetime) -> dict[str, BatchStatus]:
        """Those of `batch_ids` that the workspace's list shows, down to batches created before `since`.

        One call per thousand batches. A batch that the list does not show yet is left out.
        Raises UnreachableError.
        """
        from anthropic import APIStatusError

        found: dict[str, BatchStatus] = {}
        try:
            with _answers():
                for batch in self._client.messages.batches.list(limit=_PAGE):
                    if batch.id in batch_ids:
                        found[batch.id] = _status(batch)
                    if len(found) == len(batch_ids) or batch.created_at < since:
                        break
        except APIStatusError as error:
            raise UnreachableError(_refusal(error)) from None
        return found

    def download(self, batch_id: str, to: Path) -> bool:
        """Streams a batch's results, byte for byte, into `to`. False where the API has none any more.

        Raises:
            UnreachableError: the call failed, or the connection broke before the end.
        """
        from anthropic import AnthropicError, APIStatusError, NotFoundError

        try:
            with (
                _answers(),
                to.open("wb") as file,
                self._client.messages.batches.with_streaming_response.results(batch_id) as response,
            ):
                for block in response.iter_bytes(_DOWNLOAD_BYTES):
                    file.write(block)
        except NotFoundError:
            return False
        except APIStatusError as error:
            raise UnreachableError(_refusal(error)) from None
        except AnthropicError:
            # The SDK looks the batch up first, and raises its base class when there is no results_url.
            return False
        return True


def _has_credentials(client: "Anthropic") -> bool:
    # The SDK asks for them only when it makes a call; a header of the user's own counts too.
    if client.credentials is not None:
        return True
    headers = {name.lower(): str(value) for name, value in client.default_headers.items()}
    token = headers.get("authorization", "").removeprefix("Bearer").strip()
    return bool(token or headers.get("x-api-key", "").strip())


@contextmanager
def _answers() -> Iterator[None]:
    """Turns what the transport may throw, in mid-stream too, into UnreachableError.

    So, too, with what the SDK throws at an answer of another shape: it does not check what it reads.
    """
    import httpx2
    from anthropic import APIConnectionError, APIResponseValidationError

    try:
        yield
    except APIConnectionError as error:
        raise UnreachableError(
            f"The API could not be reached ({type(error.__cause__ or error).__name__}); "
            "check the network and ANTHROPIC_BASE_URL."
        ) from None
    except (httpx2.HTTPError, httpx2.StreamError, APIResponseValidationError) as error:
        raise UnreachableError(f"The API's answer broke off ({type(error).__name__}).") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise UnreachableError(
            f"The API's answer could not be read ({type(error).__name__}); check ANTHROPIC_BASE_URL."
        ) from None


def _status(batch: "MessageBatch") -> BatchStatus:
    """Raises AttributeError, TypeError or ValueError for an answer of another shape."""
    counts = batch.request_counts
    # The SDK builds its models without looking at the types of what came.
    if not (isinstance(batch.id, str) and batch.id and isinstance(batch.created_at, datetime)):
        raise ValueError
    return BatchStatus(
        batch_id=batch.id,
        request_id=getattr(batch, "_request_id", None),
        status=batch.processing_status,
        # Their sum is the number of requests at every moment, though progress is not shown.
        requests=counts.processing
        + counts.succeeded
        + counts.errored
        + counts.canceled
        + counts.expired,
        succeeded=counts.succeeded,
        errored=counts.errored,
        canceled=counts.canceled,
        expired=counts.expired,
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        ended_at=batch.ended_at,
        archived=batch.archived_at is not None,
    )


def _refusal(error: Exception) -> str:
    status = getattr(error, "status_code", "?")
    wait = getattr(getattr(error, "response", None), "headers", {}).get("retry-after")
    return (
        f"The API answered {status}: {_short(error)}{_request_id(error)}"
        + (f"; it asks to wait {wait} s" if wait else "")
        + "."
    )


def _short(error: Exception) -> str:
    body = getattr(error, "body", None)
    detail = body.get("error") if isinstance(body, dict) else None
    message = detail.get("message") if isinstance(detail, dict) else None
    return " ".join(str(message or error).split())[:300].rstrip(".")


def _request_id(error: Exception) -> str:
    request_id = getattr(error, "request_id", None)
    return f" (request {request_id})" if request_id else ""
