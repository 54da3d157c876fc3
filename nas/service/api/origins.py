"""From where the service may be called: the names it answers to, and other sites' pages."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nas.service.api.problems import problem_response
from nas.service.settings import ServiceSettings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "via")
"""Headers that only a proxy sends: behind one, a loopback address is not this machine's alone."""
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Origins:
    """Refuses names that are not the service's, and what another site's page would change.

    A page whose own name was made to point here (DNS rebinding) calls by that name. Where no
    token is asked for, any page that the user looks at could send a form here.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._app = app
        self._hosts = {name.lower() for name in (host, *_LOOPBACK, *settings.hosts)}
        self._origins = frozenset(settings.origins)
        self._open = not settings.needs_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _name(hosts[0]) not in self._hosts:
            detail = "the Host header names another service; an operator lists its names in hosts"
            await problem_response(421, detail)(scope, receive, send)
        elif self._open and any(name in headers for name in _PROXIED):
            detail = "the service asks for no token and is behind a proxy: set auth: required"
            await problem_response(403, detail)(scope, receive, send)
        elif (
            self._open
            and scope["method"] not in SAFE_METHODS
            and not _is_own(headers, hosts[0])
            and headers.get("origin") not in self._origins
        ):
            detail = "a page of another site may change nothing here"
            await problem_response(403, detail)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _name(host: str) -> str:
    """A Host header without its port."""
    bare, colon, port = host.lower().rpartition(":")
    return bare if colon and port.isdecimal() and not bare.endswith(":") else host.lower()


def _is_own(headers: Headers, host: str) -> bool:
    """Whether a request comes from no page, or from one of the service's own."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()
