"""Errors as the API sends them: a status, a type, a message, and sometimes an error code."""

from __future__ import annotations

import secrets
from typing import Any

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def type_of_status(status: int) -> str:
    """The error type that the API pairs with an HTTP status; `api_error` for any other 5xx."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


class ApiError(Exception):
    """An answer other than 200, to be sent with `body()`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error_type: str | None = None,
        error_code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_type = error_type or type_of_status(status)
        self.error_code = error_code
        self.retry_after = retry_after

    def body(self, request_id: str) -> dict[str, Any]:
        return error_body(self.error_type, self.message, request_id, self.error_code)


def error_body(
    error_type: str, message: str, request_id: str, error_code: str | None = None
) -> dict[str, Any]:
    """The API's error object; the same shape stands in an HTTP answer and in an errored result."""
    error: dict[str, Any] = {"type": error_type, "message": message}
    if error_code is not None:
        error["details"] = {"error_code": error_code}
    return {"type": "error", "error": error, "request_id": request_id}


def new_request_id() -> str:
    return "req_" + secrets.token_hex(12)
