"""What an operator sees of each request: a line of the log and two metrics; and unknown errors."""

from __future__ import annotations

import time

import anyio
import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.service.access.tokens import Caller
from nas.service.api.problems import problem_response
from nas.service.api.response_headers import request_id_of
from nas.service.running.metrics import Metrics

_log = structlog.stdlib.get_logger(__name__)

_LEFT = 499
"""The status, as nginx writes it, of a client that left before it was answered."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OPERATION = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked for every few seconds by machines: logged at level debug."""


class Observation:
    """Logs and counts requests, and answers for whatever the application did not expect."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        status, seconds = _LEFT, 0.0

        async def noted(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - began
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 - the client learns nothing but its name
            if not _has_left(error, begun=status != _LEFT):
                _log.exception("request failed")
                if status == _LEFT:
                    detail = "a fault of the service: its log says more under the request id"
                    response = problem_response(500, detail, request_id=request_id_of(scope))
                    await response(scope, receive, noted)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = route_of(scope)
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(method, route).observe(
                seconds or time.perf_counter() - began
            )
            (_log.debug if route in _OPERATION else _log.info)(
                "request",
                method=method,
                route=route,
                status=status,
                duration_ms=round(1000 * (time.perf_counter() - began), 2),
                **_about(scope),
            )


def _has_left(error: Exception, *, begun: bool) -> bool:
    """Whether an error only says that the client has left before the end of its answer.

    FastAPI closes the receiving end of an event stream before it stops the tasks that send into it:
    one that waits to send just then fails.

    Args:
        begun: whether the answer had begun.
    """
    if isinstance(error, ExceptionGroup):
        return all(_has_left(one, begun=begun) for one in error.exceptions)
    return isinstance(error, ClientDisconnect) or (
        begun and isinstance(error, anyio.BrokenResourceError)
    )


def _about(scope: Scope) -> dict[str, str]:
    """Who asked, and about which search, as far as that is known."""
    about = {}
    caller: Caller | None = scope["state"].get("caller")
    if caller is not None:
        about["user"] = caller.owner
    search_id = scope.get("path_params", {}).get("search_id")
    if search_id is not None:
        about["search_id"] = str(search_id)[:64]
    return about


def route_of(scope: Scope) -> str:
    """The template of the route that answers, such as ``/v1/tokens/{token_id}``; ``-`` if none."""
    return getattr(scope.get("route"), "path_format", "-")
