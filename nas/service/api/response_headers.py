"""The headers of every answer: its request's name, and what browsers may do with it."""

from __future__ import annotations

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "  # of plotly.js
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)
_REPORT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
)
_DATA = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ResponseHeaders:
    """Adds the headers that an answer does not set itself.

    A request's name is the client's ``X-Request-ID``, if that is a plain one, or a new one. It is
    in each line of the log that the request causes, and in the audit log.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        headers = _ALWAYS | _by_path(scope["path"]) | {"x-request-id": request_id}
        if scope.get("scheme") == "https":
            headers["strict-transport-security"] = "max-age=31536000"

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                for name, value in headers.items():
                    answered.setdefault(name, value)
            await send(message)

        with bound_contextvars(request_id=request_id):
            await self._app(scope, receive, complete)


def request_id_of(scope: Scope) -> str:
    """The name of a request."""
    return str(scope["state"]["request_id"])


def _by_path(path: str) -> dict[str, str]:
    """What an answer may load, and whether it may be kept."""
    if not path.startswith("/v1/"):
        return {"content-security-policy": _PAGE}
    if path.endswith("/archive"):  # kept, and asked for again by its ETag
        return {"content-security-policy": _DATA, "cache-control": "private, no-cache"}
    policy = _REPORT if path.endswith("/report.html") else _DATA
    return {"content-security-policy": policy, "cache-control": "no-store"}
