"""The Message Batches API as the pipeline uses it: create once, look, download. All calls go through here.

The SDK's own retries are off everywhere. It would send a create call again whose answer was lost, and pay
twice; and it obeys a `retry-after` of an hour by sleeping in the worker. Callers come back later instead.
"""

import json
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from batch_pipeline.claude.deadline import Deadline, OutOfTimeError
from batch_pipeline.claude.errors import (
    NotCreatedError,
    NotNowError,
    UnreachableError,
    UnresolvedError,
)
from batch_pipeline.claude.refusals import (
    is_spend_limit,
    refusal,
    request_id_of,
    retry_after,
    short,
)
from batch_pipeline.claude.same_origin import ForeignHostError, SameOrigin
from batch_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from anthropic import Anthropic
    from anthropic.types.messages import MessageBatch

# Answers to a create call after which the API certainly holds no batch. Everything else is ambiguous.
_REFUSALS = frozenset({400, 401, 402, 403, 404, 413, 422, 429})
_PAGE = 1000
_BATCH_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_DOWNLOAD_BYTES = _UPLOAD_BYTES = 1 << 20
_LINES_TO_IDENTIFY = 100
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


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
    """The API that ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL name; up to `deadline`, where one is given."""

    def __init__(self, deadline: Deadline | None = None) -> None:
        import anthropic
        from anthropic import AnthropicError

        try:
            home = SameOrigin()
            self._client: Anthropic = anthropic.Anthropic(
                max_retries=0,
                http_client=anthropic.DefaultHttpxClient(
                    event_hooks={"request": [home, deadline] if deadline else [home]},
                    verify=_certificates(*map(os.environ.get, _CERTIFICATES)),
                ),
            )
            home.base_url = self._client.base_url
        except (AnthropicError, ValueError) as error:
            raise ConfigurationError(
                f"The Anthropic client cannot be set up: {short(error)}"
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
        except ForeignHostError as error:
            raise ConfigurationError(str(error)) from None
        except APIStatusError as error:
            if error.status_code in (401, 403):
                raise ConfigurationError(
                    f"The API refused the key ({error.status_code}): check ANTHROPIC_API_KEY and "
                    "ANTHROPIC_BASE_URL; nothing was sent."
                ) from None
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                raise UnreachableError(refusal(error), retry_after(error)) from None
            raise ConfigurationError(
                f"The address in ANTHROPIC_BASE_URL does not answer as the Message Batches API "
                f"({error.status_code}); nothing was sent."
            ) from None

    def create(self, body: Path) -> BatchStatus:
        """Sends a request body once, streamed from its file.

        Raises:
            NotCreatedError: the API refused it, and would again.
            NotNowError: the API has no room for it now, or could not be reached at all.
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
                    content=_pieces(content),
                    # Followed, a redirect would send the rows twice, or answer with something else.
                    options={
                        "max_retries": 0,
                        "follow_redirects": False,
                        "headers": {
                            "content-type": "application/json",
                            "content-length": str(body.stat().st_size),
                        },
                    },
                )
                return _status(batch)
            except APIStatusError as error:
                if error.status_code == 429 and not is_spend_limit(error):
                    raise NotNowError(refusal(error), retry_after(error)) from None
                if error.status_code in _REFUSALS:
                    raise NotCreatedError(refusal(error)) from None
                raise UnresolvedError(
                    f"the create call was answered {error.status_code}{request_id_of(error)}",
                    retry_after(error),
                ) from None
            except APIConnectionError as error:
                cause = type(error.__cause__ or error)
                if issubclass(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
                    raise NotNowError(
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
                        f"The request could not be made ({short(error)}), so nothing was sent."
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
            raise UnreachableError(refusal(error), retry_after(error)) from None

    def created_since(
        self, since: datetime, enough: Callable[[BatchStatus], bool]
    ) -> list[BatchStatus]:
        """The workspace's batches, newest first, down to those created before `since`.

        One call per thousand batches; stops early after one for which `enough` is true. The list may lag:
        a batch that was created a moment ago may be left out. Raises UnreachableError.
        """
        from anthropic import APIStatusError

        found: list[BatchStatus] = []
        try:
            with _answers():
                for batch in self._client.messages.batches.list(limit=_PAGE):
                    if batch.created_at < since:
                        break
                    found.append(_status(batch))
                    if enough(found[-1]):
                        break
        except APIStatusError as error:
            raise UnreachableError(refusal(error), retry_after(error)) from None
        return found

    def clock_ahead(self) -> timedelta:
        """How far this machine's clock is ahead of the API's, to the second, by the Date of an answer.

        Zero where the answer has none. Raises UnreachableError.
        """
        from anthropic import APIStatusError

        try:
            with _answers():
                answer = self._client.messages.batches.with_raw_response.list(limit=1)
        except APIStatusError as error:
            raise UnreachableError(refusal(error), retry_after(error)) from None
        with suppress(ValueError, TypeError):
            told = parsedate_to_datetime(answer.headers.get("date", ""))
            return datetime.fromtimestamp(time.time(), UTC) - told
        return timedelta()

    def count_tokens(self, params: Mapping[str, Any], timeout: float) -> int:
        """Input tokens of one request's params; free, and apart from the limits of the other calls.

        Args:
            params: of the Messages API; what does not bear on the input is left out by the caller.
            timeout: seconds.

        Raises UnreachableError, also for what the API refuses.
        """
        from anthropic import APIStatusError

        try:
            with _answers():
                counted = self._client.messages.count_tokens(**params, timeout=timeout)
                if not isinstance(counted.input_tokens, int):
                    raise ValueError
                return counted.input_tokens
        except APIStatusError as error:
            raise UnreachableError(refusal(error), retry_after(error)) from None

    def cancel(self, batch_id: str) -> BatchStatus | None:
        """Asks for a batch to be stopped; what is in work may still complete, and is charged.

        None where the API refuses: it has ended, or is not known (yet). Raises
        UnreachableError.
        """
        from anthropic import APIStatusError

        try:
            with _answers():
                return _status(self._client.messages.batches.cancel(batch_id))
        except APIStatusError as error:
            if error.status_code in (400, 404, 409):
                return None
            raise UnreachableError(refusal(error), retry_after(error)) from None

    def first_custom_ids(self, batch_id: str) -> list[str]:
        """The custom_ids of a batch's first result lines: its results are opened, not read to the end.

        Empty where there are no results (any more), or none of those lines can be read. Raises
        UnreachableError.
        """
        found: list[str] = []
        with self._results(batch_id) as response:
            if response is not None:
                for line in islice(response.iter_lines(), _LINES_TO_IDENTIFY):
                    with suppress(ValueError, TypeError):
                        value = json.loads(line)
                        if isinstance(value, dict) and isinstance(value.get("custom_id"), str):
                            found.append(value["custom_id"])
        return found

    def delete(self, batch_id: str) -> bool:
        """Deletes an ended batch with its results; False where it was gone already. Raises UnreachableError."""
        from anthropic import APIStatusError, NotFoundError

        try:
            with _answers():
                self._client.messages.batches.delete(batch_id)
        except NotFoundError:
            return False
        except APIStatusError as error:
            raise UnreachableError(refusal(error), retry_after(error)) from None
        return True

    def download(self, batch_id: str, to: Path) -> bool:
        """Streams a batch's results, byte for byte, into `to`. False where the API has none any more.

        Raises:
            UnreachableError: the call failed, or the connection broke before the end.
        """
        with self._results(batch_id) as response:
            if response is None:
                return False
            with to.open("wb") as file:
                for block in response.iter_bytes(_DOWNLOAD_BYTES):
                    file.write(block)
        return True

    @contextmanager
    def _results(self, batch_id: str) -> "Iterator[Any]":
        """The open response with a batch's results, or None where the API has none (any more)."""
        from anthropic import AnthropicError, APIError, APIStatusError, NotFoundError

        with _answers(), ExitStack() as stack:
            response = None
            try:
                response = stack.enter_context(
                    self._client.messages.batches.with_streaming_response.results(batch_id)
                )
            except NotFoundError:
                pass
            except APIStatusError as error:
                raise UnreachableError(refusal(error), retry_after(error)) from None
            except APIError:
                raise
            except AnthropicError:
                # The SDK looks the batch up first, and raises its base class when there is no results_url.
                pass
            yield response


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    # Of its own accord the client would take 64 kB at a time, and wait for the interpreter before each.
    while piece := file.read(_UPLOAD_BYTES):
        yield piece


@lru_cache(maxsize=1)
def _certificates(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """What the SDK would read anew, for 30 ms, with each client."""
    import httpx2

    return httpx2.create_ssl_context()


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
        if isinstance(error.__cause__, ForeignHostError | OutOfTimeError):
            raise error.__cause__ from None
        raise UnreachableError(
            f"The API could not be reached ({type(error.__cause__ or error).__name__}); "
            "check the network and ANTHROPIC_BASE_URL."
        ) from None
    except (
        httpx2.HTTPError,
        httpx2.StreamError,
        httpx2.InvalidURL,
        APIResponseValidationError,
    ) as error:
        raise UnreachableError(f"The API's answer broke off ({type(error).__name__}).") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise UnreachableError(
            f"The API's answer could not be read ({type(error).__name__}); check ANTHROPIC_BASE_URL."
        ) from None


def _status(batch: "MessageBatch") -> BatchStatus:
    """Raises AttributeError, TypeError or ValueError for an answer of another shape."""
    counts = batch.request_counts
    # The SDK builds its models without looking at the types of what came.
    # An id goes into logs and tables; and a batch without one or its time could never be found again.
    identified = isinstance(batch.id, str) and _BATCH_ID.fullmatch(batch.id)
    if not (identified and isinstance(batch.created_at, datetime)):
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
