"""Who asks, known before a body is read; and what they may do, by the scope that a route names."""

from __future__ import annotations

import time
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from nas.service.access.tokens import ANYONE, Caller, Scope, find_caller
from nas.service.api.problems import ProblemError, away_response, problem_response
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


class Identified:
    """Notes the caller in a request's state, and refuses who has no good token with 401.

    FastAPI reads and parses a body before it asks a route's dependencies: a stranger's must not
    come so far. Paths that no route has are refused too, so that nobody learns which there are.
    """

    def __init__(self, app: ASGIApp, service: Service, known: KnownTokens) -> None:
        self._app, self._service, self._known = app, service, known

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self._app
        if not is_public(scope["path"]):
            try:
                scope["state"]["caller"] = await self._caller(scope)
            except ProblemError as error:
                answer = problem_response(error.status, error.detail, error.headers)
            except SQLAlchemyError as error:
                answer = away_response(error)
        await answer(scope, receive, send)

    async def _caller(self, scope: ASGIScope) -> Caller:
        if not self._service.settings.needs_token:
            return ANYONE
        token = bearer_token(scope)
        if token is None:
            raise ProblemError(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
        found = await self._known.caller(self._service, token)
        if found is None:
            raise ProblemError(
                401,
                "the token is unknown, expired or revoked",
                {"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        return found


def bearer_token(scope: ASGIScope) -> str | None:
    """The token that a request shows; None where it shows none."""
    scheme, token = get_authorization_scheme_param(Headers(scope=scope).get("authorization"))
    return token if scheme.lower() == "bearer" and token else None


async def the_caller(request: Request) -> Caller:
    """Who asks, whatever they may do: :class:`Identified` has found out."""
    found = request.state.caller
    assert isinstance(found, Caller)
    return found


Whoever = Annotated[Caller, Depends(the_caller)]
"""For a dependency of a route that itself names the scope."""


class Needs:
    """A dependency: the caller, who has one of some scopes."""

    def __init__(self, *scopes: Scope) -> None:
        self.scopes = scopes

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


Reader = Annotated[Caller, Depends(Needs("read"))]
Submitter = Annotated[Caller, Depends(Needs("submit"))]
DeviceAgent = Annotated[Caller, Depends(Needs("device"))]
Admin = Annotated[Caller, Depends(Needs("admin"))]


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
