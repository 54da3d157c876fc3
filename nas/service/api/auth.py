"""Who may do what: the dependencies by which a route names the scope that it asks for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from nas.service.access.tokens import Caller, Scope, find_caller
from nas.service.api.problems import ProblemError
from nas.service.service import Service

PUBLIC = frozenset({"/", "/assets", "/healthz", "/readyz", "/v1/openapi.json"})
"""Routes that ask for no token; ``/assets`` with all that is under it."""

_BEARER = HTTPBearer(
    auto_error=False, description="A token of `nas admin token create`, or of POST /v1/tokens."
)
_REMEMBERED_S = 2.0
"""For so long a token that was good is not looked up again: it is revoked as late at most."""
_RATED_S = 600.0
"""For so long requests with a token that was good count as that token's."""


async def the_service(request: Request) -> Service:
    """The service that the app serves. Were it not async, a thread would be taken to ask for it."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


The = Annotated[Service, Depends(the_service)]


class KnownTokens:
    """Tokens that were good a moment ago, so that a busy client costs no query a request."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Caller]] = {}

    def recall(self, token: str, seconds: float = _RATED_S) -> Caller | None:
        """Whose token it was when it was good so lately; None where it is not known.

        Whether it still is, only :meth:`caller` tells.
        """
        known = self._known.get(token)
        return known[1] if known is not None and time.monotonic() - known[0] < seconds else None

    async def caller(self, service: Service, token: str) -> Caller | None:
        """Whose token it is; None where it is not good."""
        known = self.recall(token, _REMEMBERED_S)
        if known is not None:
            return known
        now = time.monotonic()
        found = await to_thread.run_sync(find_caller, service.engine, token)
        if found is not None:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[token] = (now, found)
        return found


async def the_caller(request: Request) -> Caller:
    """Who asks, whatever they may do: :class:`nas.service.api.identity.Identified` has found it."""
    found = request.state.caller
    assert isinstance(found, Caller)
    return found


Whoever = Annotated[Caller, Depends(the_caller)]
"""For a dependency of a route that itself names the scope."""


@dataclass(frozen=True)
class Needs:
    """A dependency: the caller, who has one of some scopes."""

    scopes: tuple[Scope, ...]

    async def __call__(
        self,
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> Caller:
        """The caller.

        Raises:
            ProblemError: 403 without such a scope.
        """
        found = await the_caller(request)
        if not any(found.may(scope) for scope in self.scopes):
            raise ProblemError(403, f"this needs a token with scope {' or '.join(self.scopes)}")
        return found


def needs(*scopes: Scope) -> Needs:
    """A dependency: the caller, who has one of some scopes."""
    return Needs(scopes)


Reader = Annotated[Caller, Depends(needs("read"))]
Submitter = Annotated[Caller, Depends(needs("submit"))]
DeviceAgent = Annotated[Caller, Depends(needs("device"))]
Admin = Annotated[Caller, Depends(needs("admin"))]


def scopes_of(route: RouteContext) -> tuple[Scope, ...]:
    """The scopes of which a route asks for one; none where it asks for no token."""
    waiting: list[Dependant] = [getattr(route, "dependant", None) or Dependant()]
    while waiting:
        dependant = waiting.pop()
        if isinstance(dependant.call, Needs):
            return dependant.call.scopes
        waiting += dependant.dependencies
    return ()


def is_public(path: str) -> bool:
    """Whether a route asks for no token."""
    return path in PUBLIC or path.startswith("/assets/")


def refuse_open_routes(app: FastAPI) -> None:
    """Have no application start with a route that somebody forgot to protect.

    Raises:
        RuntimeError: a route that is not public asks for no scope.
    """
    for route in iter_route_contexts(app.routes):
        if not is_public(route.path or "") and not scopes_of(route):
            raise RuntimeError(f"{route.path} asks for no scope and is not public")
