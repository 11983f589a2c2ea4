"""What an object store says no with, told apart: for a moment, for good, or that a person must mend something."""

import errno
from collections import deque
from collections.abc import Iterator

from batch_pipeline.errors import ConfigurationError, PipelineError

# By name: each filesystem brings its own libraries, and none is imported for this.
_BROKEN = frozenset(
    {
        "ClientConnectionError",
        "ClientPayloadError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "EndpointConnectionError",
        "FlakyReadError",
        "HTTPClientError",
        "IncompleteReadError",
        "ReadTimeoutError",
        "ResponseStreamingError",
        "ServiceRequestError",
        "ServiceResponseError",
        "TransportError",
    }
)
_NO_ACCESS = frozenset(
    {
        "ClientAuthenticationError",
        "CredentialRetrievalError",
        "DefaultCredentialsError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "RefreshError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
_BUSY_CODES = frozenset(
    {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "InternalError"}
)
_REFUSING_CODES = frozenset(
    {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
)
# What the system says of a network; all else that it says is of this host's own disk.
_NETWORK = frozenset(
    {
        errno.EBUSY,
        errno.EIO,
        errno.EREMOTEIO,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
    }
)
# What was raised lately: an error that passes through DuckDB comes out as its text.
_raised: deque[PipelineError] = deque(maxlen=32)


class StoreError(PipelineError):
    """An object store did not answer for too long. Nothing is lost; the next call goes on."""


class StoreRefusedError(ConfigurationError):
    """An object store says no, and would again: a bucket, credentials or rights must be mended."""


def is_passing(error: BaseException) -> bool:
    """Whether the same call may go well in a moment."""
    code, status = _answer(error)
    if status is not None:
        return status >= 500 or status in (408, 429) or code in _BUSY_CODES
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return False
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NETWORK
    return bool(_names(error) & _BROKEN)


def sentence_for(error: BaseException, root: str, seconds: float) -> PipelineError | None:
    """What a person reads; None where `error` is nothing that the store said.

    Args:
        error: what a call ended with, after all tries.
        root: the URL that is configured.
        seconds: how long it was tried.
    """
    code, status = _answer(error)
    found: PipelineError | None = None
    local = isinstance(error, OSError) and error.errno is not None and status is None
    refused = (isinstance(error, PermissionError) and not local) or bool(_names(error) & _NO_ACCESS)
    if code == "NoSuchBucket":
        found = StoreRefusedError(
            f"BATCH_PIPELINE_ROWS: there is no such bucket as that of {root}; make it, or mend the address."
        )
    elif is_passing(error):
        found = StoreError(
            f"BATCH_PIPELINE_ROWS: {root} could not be used for {seconds:,.0f} s ({_said(error)}); see whether it "
            "can be reached from here and is well, then call again: nothing is lost, and it goes on from there."
        )
    elif refused or code in _REFUSING_CODES or status in (401, 403):
        found = StoreRefusedError(
            f"BATCH_PIPELINE_ROWS: {root} refuses access ({_said(error)}); check the credentials that the "
            "filesystem finds (for s3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role), "
            "and that they may list, read, write and delete below that address."
        )
    elif status is not None and status >= 300 and not isinstance(error, FileNotFoundError):
        found = StoreRefusedError(
            f"BATCH_PIPELINE_ROWS: {root} refuses ({_said(error)}); check the address, the region, the endpoint and "
            "the credentials."
        )
    elif "ParamValidationError" in _names(error):
        found = StoreRefusedError(
            f"BATCH_PIPELINE_ROWS: {root} is no address that the store knows; write it as s3://bucket/prefix."
        )
    if found is not None:
        _raised.append(found)
    return found


def behind(error: BaseException) -> PipelineError | None:
    """The sentence that a library's `error` was raised for, where it only passed on one of ours."""
    text = str(error)
    return next((each for each in reversed(_raised) if str(each) in text), None)


def _answer(error: BaseException) -> tuple[str | None, int | None]:
    """The code and HTTP status that the store answered with, as far as there was an answer."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            code = str(response.get("Error", {}).get("Code") or "") or None
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return code, status if isinstance(status, int) else None
        for name in ("status_code", "status", "code"):
            status = getattr(one, name, None)
            if isinstance(status, int) and 300 <= status < 600:
                return None, status
    return None, None


def _said(error: BaseException) -> str:
    """Never the library's own text: it may hold a name, a key's id or what was signed."""
    code, status = _answer(error)
    if status is None:
        return type(error).__name__
    numbers = str(status)
    return f"HTTP {status}" if code in (None, numbers) else f"{code}, HTTP {status}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}
