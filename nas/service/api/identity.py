"""Whose a request is: known before anything of its body is read."""

from __future__ import annotations

from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nas.service.access.tokens import ANYONE, Caller
from nas.service.api.auth import KnownTokens, is_public
from nas.service.api.problems import ProblemError, away_response, problem_response
from nas.service.service import Service


class Identified:
    """Notes the caller in a request's state, and refuses who has no good token with 401.

    FastAPI reads and parses a body before it asks a route's dependencies: a stranger's must not
    come so far. Paths that no route has are refused too, so that nobody learns which there are.
    """

    def __init__(self, app: ASGIApp, service: Service, known: KnownTokens) -> None:
        self._app, self._service, self._known = app, service, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self._app
        if not is_public(scope["path"]):
            try:
                scope["state"]["caller"] = await self._caller(scope)
            except ProblemError as error:
                answer = problem_response(error.status, error.detail, error.headers)
            except SQLAlchemyError as error:
                answer = away_response(error)
        await answer(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
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


def bearer_token(scope: Scope) -> str | None:
    """The token that a request shows; None where it shows none."""
    scheme, token = get_authorization_scheme_param(Headers(scope=scope).get("authorization"))
    return token if scheme.lower() == "bearer" and token else None
