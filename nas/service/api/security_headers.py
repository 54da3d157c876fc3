"""What a browser is told about responses: what a page may load, who may frame or keep it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
_Raw = tuple[tuple[bytes, bytes], ...]


class SecurityHeaders:
    """Adds what a response does not say of itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers_of(scope["path"])

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                given += [header for header in headers if header[0] not in names]
                if scope.get("scheme") == "https":
                    given.append((b"strict-transport-security", b"max-age=31536000"))
                message["headers"] = given
            await send(message)

        await self._app(scope, receive, protected)


def _headers_of(path: str) -> _Raw:
    if not path.startswith("/v1/"):
        return _FOR_PAGE
    if path.endswith("/report.html"):
        return _FOR_REPORT
    return _FOR_ARCHIVE if path.endswith("/archive") else _FOR_DATA


def _raw(policy: str, cache: str | None) -> _Raw:
    headers = _ALWAYS | {"content-security-policy": policy}
    if cache is not None:
        headers["cache-control"] = cache
    return tuple((name.encode(), value.encode()) for name, value in headers.items())


_FOR_PAGE = _raw(_PAGE, None)
_FOR_REPORT = _raw(_REPORT, "no-store")
_FOR_ARCHIVE = _raw(_DATA, "private, no-cache")  # kept, and asked for again by its ETag
_FOR_DATA = _raw(_DATA, "no-store")
