"""The HTTP face: routes, credentials, errors and paging as the API has them, and faults of calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from .account import CallLog, account, greeting
from .api_errors import ApiError, new_request_id
from .batches import Batch, Batches
from .call_faults import CallFaults, error_of
from .models import MODELS, find_model
from .responder import Call
from .scenario import CallKind, CallRule, Scenario
from .store import Store
from .validation import RefusedError
from .wire import (
    BrokenOff,
    Dropped,
    Host,
    cut_at,
    file_blocks,
    keep_silent,
    receive_body,
    save_body,
)

SERVER_NAME = "batch-pipeline-simulator"
_MAX_MESSAGE_BYTES = 32_000_000

Receiver = Callable[[Request], Awaitable[Any]]
"""Takes in the body, without any effect yet."""
Handler = Callable[[Request, Any, CallRule | None], Awaitable[Response]]
"""Does what the call asks, with what the receiver took in, and under a rule that changes how."""


def build_app(scenario: Scenario, store: Store, batches: Batches, host: Host) -> Starlette:
    """The ASGI application over these stores."""
    api = _Api(scenario, store, batches, host)
    base = "/v1/messages/batches"
    calls = [
        Route(base, api.route("create", api.create, api.receive_batch), methods=["POST"]),
        Route(base, api.route("list", api.list_batches), methods=["GET"]),
        Route(base + "/{batch_id}", api.route("retrieve", api.retrieve), methods=["GET"]),
        Route(base + "/{batch_id}", api.route("delete", api.delete), methods=["DELETE"]),
        Route(base + "/{batch_id}/cancel", api.route("cancel", api.cancel), methods=["POST"]),
        Route(base + "/{batch_id}/results", api.route("results", api.results), methods=["GET"]),
        Route("/v1/messages", api.route("messages", api.message, api.receive_params), methods=["POST"]),
        Route(
            "/v1/messages/count_tokens", api.route("count_tokens", api.count_tokens, api.receive_params),
            methods=["POST"],
        ),
        Route("/v1/models", api.route("models", api.list_models), methods=["GET"]),
        Route("/v1/models/{model_id}", api.route("models", api.model), methods=["GET"]),
    ]  # fmt: skip
    routes = [
        Route("/simulator", api.greet, methods=["GET"]),
        Route("/simulator/account", api.show_account, methods=["GET"]),
        *calls,
        # The same calls at an address that says what answers, for wherever a caller shows its base URL.
        Mount("/simulator", routes=calls),
        Route("/{path:path}", api.unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    ]
    return Starlette(routes=routes)


class _Api:
    def __init__(self, scenario: Scenario, store: Store, batches: Batches, host: Host) -> None:
        self._scenario = scenario
        self._store = store
        self._batches = batches
        self._host = host
        self._calls = CallLog(store)
        self._faults = CallFaults(scenario.calls, self._calls.begun)

    def route(
        self, kind: CallKind, handler: Handler, receive: Receiver | None = None
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint: credentials first, then the body, then faults, then the call itself."""

        async def endpoint(request: Request) -> Response:
            request_id = new_request_id()
            request.state.request_id = request_id
            status = "dropped"
            try:
                try:
                    self._authenticate(request)
                    self._calls.begin(kind)
                    rule = self._faults.next(kind)
                    response = await self._with_faults(request, receive or _no_body, handler, rule)
                except ApiError as error:
                    response = _error(error, request_id)
                if not isinstance(response, Dropped):
                    status = str(response.status_code)
            except ClientDisconnect:
                response = Dropped(self._host)
            finally:
                folder = getattr(request.state, "folder", None)
                if folder is not None:  # of a batch that was not accepted
                    self._store.discard(folder)
            self._calls.end(kind, status)
            response.headers["request-id"] = request_id
            response.headers["server"] = SERVER_NAME
            return response

        return endpoint

    async def _with_faults(
        self, request: Request, receive: Receiver, handler: Handler, rule: CallRule | None
    ) -> Response:
        fault = rule.fault if rule is not None else None
        arrived = await receive(request)
        if rule is None or fault in {"cut_short", "not_found", "lag"}:
            return await handler(request, arrived, rule)
        if fault == "status":
            raise error_of(rule)
        if fault == "drop_before_accepting":
            return Dropped(self._host)
        silent = fault == "hang"
        if silent and rule.when == "before_accepting":
            silent = False
            if not await keep_silent(request, rule.seconds or 0, self._host):
                return Dropped(self._host)
        response = await handler(request, arrived, None)
        if fault == "drop_after_accepting":
            return Dropped(self._host)
        if fault == "error_after_accepting":
            raise error_of(rule)
        if silent and not await keep_silent(request, rule.seconds or 0, self._host):
            return Dropped(self._host)
        return response

    def _authenticate(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = request.headers.get("x-api-key") or (token if scheme.lower() == "bearer" else "")
        accepted = self._scenario.keys
        if not key:
            raise ApiError(401, "x-api-key header is required")
        if key not in accepted if accepted is not None else "invalid" in key:
            raise ApiError(401, "invalid x-api-key")
        if not request.headers.get("anthropic-version"):
            raise ApiError(400, "anthropic-version: header is required")

    async def receive_batch(self, request: Request) -> tuple[Path, str]:
        """The folder that holds the body now, and the body's sha256."""
        folder = self._store.new_folder()
        request.state.folder = folder
        sha256 = await save_body(request, folder / "body.json", self._scenario.max_bytes)
        return folder, sha256

    async def receive_params(self, request: Request) -> bytes:
        return await receive_body(request, _MAX_MESSAGE_BYTES)

    async def create(
        self, request: Request, arrived: tuple[Path, str], _: CallRule | None
    ) -> Response:
        version, betas = _headers(request)
        batch = await asyncio.to_thread(self._batches.create, *arrived, version, betas)
        return _json(_unended(batch, request))

    async def list_batches(
        self, request: Request, _arrived: None, rule: CallRule | None
    ) -> Response:
        query = request.query_params
        try:
            limit = int(query.get("limit", "20"))
        except ValueError:
            raise ApiError(400, "limit: Input should be a valid integer") from None
        if not 1 <= limit <= 1_000:
            raise ApiError(400, "limit: Input should be between 1 and 1000")
        now = time.time()
        youngest = now - (rule.seconds or 0) if rule is not None else now
        page, more = await asyncio.to_thread(
            self._batches.page, limit, query.get("after_id"), query.get("before_id"), youngest
        )
        return _json(_page([b.describe(now, _base(request)) for b in page], more))

    async def retrieve(self, request: Request, _arrived: None, rule: CallRule | None) -> Response:
        batch = await self._find(request, rule)
        return _json(batch.describe(time.time(), _base(request)))

    async def cancel(self, request: Request, _arrived: None, rule: CallRule | None) -> Response:
        batch = await self._find(request, rule)
        await asyncio.to_thread(self._batches.cancel, batch.record.id)
        return _json(_unended(batch, request))

    async def delete(self, request: Request, _arrived: None, rule: CallRule | None) -> Response:
        batch = await self._find(request, rule)
        await asyncio.to_thread(self._batches.delete, batch.record.id)
        return _json({"id": batch.record.id, "type": "message_batch_deleted"})

    async def results(self, request: Request, _arrived: None, rule: CallRule | None) -> Response:
        batch = await self._find(request, rule)
        path = await asyncio.to_thread(self._batches.results, batch.record.id)
        cut = rule if rule is not None and rule.fault == "cut_short" else None
        blocks = file_blocks(path, cut_at(path, cut) if cut else path.stat().st_size)
        broken = cut is not None and cut.at == "connection"
        response = BrokenOff(blocks, self._host) if broken else StreamingResponse(blocks)
        response.headers["content-type"] = "application/x-jsonl"
        return response

    async def message(self, request: Request, arrived: bytes, _: CallRule | None) -> Response:
        params = _decode(arrived)
        version, betas = _headers(request)
        if not isinstance(params, dict):
            raise ApiError(400, "Input should be a valid dictionary")
        call = Call(version, betas, time.time(), self._calls.begun["messages"], "standard")
        outcome = await asyncio.to_thread(self._batches.message, params, call)
        if outcome.error is not None:
            error_type, message = outcome.error
            raise ApiError(_STATUS[error_type], message, error_type=error_type)
        return _json(outcome.message)

    async def count_tokens(self, _request: Request, arrived: bytes, _: CallRule | None) -> Response:
        params = _decode(arrived)
        try:
            tokens = await asyncio.to_thread(self._batches.count_tokens, params)
        except RefusedError as refusal:
            raise ApiError(
                _STATUS[refusal.error_type], str(refusal), error_type=refusal.error_type
            ) from None
        return _json({"input_tokens": tokens})

    async def list_models(self, request: Request, _arrived: None, _: CallRule | None) -> Response:
        query = request.query_params
        offered = [m.info() for m in MODELS if m.lifecycle != "retired"]
        names = [info["id"] for info in offered]
        limit = int(query.get("limit", "20")) if query.get("limit", "20").isdigit() else 0
        if not 1 <= limit <= 1_000:
            raise ApiError(400, "limit: Input should be between 1 and 1000")
        start, stop = 0, len(offered)
        if query.get("after_id") in names:
            start = names.index(query["after_id"]) + 1
        if query.get("before_id") in names:
            stop = names.index(query["before_id"])
            start = max(start, stop - limit)
            return _json(_page(offered[start:stop], start > 0))
        return _json(_page(offered[start : start + limit], start + limit < stop))

    async def model(self, request: Request, _arrived: None, _: CallRule | None) -> Response:
        model = find_model(request.path_params["model_id"])
        if model is None:
            raise ApiError(404, f"model: {request.path_params['model_id'][:80]}")
        return _json(model.info())

    async def greet(self, _: Request) -> Response:
        text = greeting(self._batches, self._scenario)
        return PlainTextResponse(text, headers={"server": SERVER_NAME})

    async def show_account(self, _: Request) -> Response:
        found = await asyncio.to_thread(account, self._batches, self._store, self._calls)
        return _json({**found, "faults": self._faults.fired}, {"server": SERVER_NAME})

    async def unknown(self, _: Request) -> Response:
        request_id = new_request_id()
        response = _error(ApiError(404, "Not found"), request_id)
        response.headers["request-id"] = request_id
        response.headers["server"] = SERVER_NAME
        return response

    async def _find(self, request: Request, rule: CallRule | None) -> Batch:
        batch_id = request.path_params["batch_id"]
        batch = await asyncio.to_thread(self._batches.get, batch_id)
        hidden = rule.seconds if rule is not None and rule.fault == "not_found" else None
        if hidden is not None and time.time() < batch.record.created_at + hidden:
            raise ApiError(404, f"Message batch {batch_id} not found")
        return batch


_STATUS = {
    "invalid_request_error": 400,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 529,
}


def _json(value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), media_type="application/json", headers=headers)


def _error(error: ApiError, request_id: str) -> Response:
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = f"{error.retry_after:g}"
    return Response(orjson.dumps(error.body(request_id)), error.status, headers, "application/json")


def _page(data: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    return {
        "data": data,
        "has_more": more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/") + str(request.scope["root_path"])


def _headers(request: Request) -> tuple[str, frozenset[str]]:
    """The call's API version and its betas."""
    betas = request.headers.get("anthropic-beta", "")
    return request.headers["anthropic-version"], frozenset(
        beta.strip() for beta in betas.split(",") if beta.strip()
    )


def _decode(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The request body is not valid JSON: {error.msg}") from None


def _unended(batch: Batch, request: Request) -> dict[str, Any]:
    """The batch as it is until its end, however soon that comes."""
    return Batch(batch.record).describe(time.time(), _base(request))


async def _no_body(_: Request) -> None:
    return None
