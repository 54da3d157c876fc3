"""Errors as RFC 9457 problem details: one object, whatever went wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from nas.service.conflicts import ConflictError
from nas.service.database.engine import is_away
from supernet.errors import NasError, shown

_log = logging.getLogger(__name__)

_MOST_ERRORS = 20
"""Of an invalid request, as they are told."""

MEDIA_TYPE = "application/problem+json"


class ProblemDetails(
    BaseModel,
    json_schema_extra={
        "example": {
            "type": "about:blank",
            "title": "Unprocessable Content",
            "status": 422,
            "detail": "budget '5 parsecs' is not understood; write milliseconds ('5ms')",
        }
    },
):
    """What an error's body holds (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="One line: what was given, and what is accepted.")
    errors: list[dict[str, str]] | None = Field(
        default=None, description="Of an invalid request: each field and what is wrong with it."
    )


class ProblemError(Exception):
    """An error that a client may see.

    Args:
        status: the HTTP status.
        detail: one line.
        headers: of the response.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may answer with problems."""
    return {status: {"description": HTTPStatus(status).phrase} for status in statuses}


def problem_response(
    status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The response of a problem."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return JSONResponse(
        body | {"detail": detail} | more, status, headers=headers, media_type=MEDIA_TYPE
    )


def away_response(error: SQLAlchemyError) -> JSONResponse:
    """The response where the database is away; any other error of it is raised."""
    if not is_away(error):
        raise error
    _log.error("the database does not answer: %s", getattr(error, "orig", error))
    detail = "the database does not answer: try again in a moment"
    return problem_response(503, detail, {"Retry-After": "5"})


def handle_problems(app: FastAPI) -> None:
    """Turn every error of the app into problem details."""

    @app.exception_handler(ProblemError)
    async def _problem(_: Request, error: ProblemError) -> JSONResponse:
        return problem_response(error.status, error.detail, error.headers)

    @app.exception_handler(ConflictError)
    async def _conflict(_: Request, error: ConflictError) -> JSONResponse:
        return problem_response(409, str(error))

    @app.exception_handler(NasError)
    async def _mendable(_: Request, error: NasError) -> JSONResponse:
        return problem_response(422, str(error))

    @app.exception_handler(ClientDisconnect)
    async def _left(_: Request, __: ClientDisconnect) -> JSONResponse:
        return problem_response(400, "the body was not sent to its end")

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        errors = [_fault(one) for one in found[:_MOST_ERRORS]]
        if len(found) > _MOST_ERRORS:
            errors[-1]["detail"] += f"; and {len(found) - _MOST_ERRORS} more"
        first = errors[0]
        return problem_response(422, f"{first['field']}: {first['detail']}", errors=errors)

    @app.exception_handler(SQLAlchemyError)
    async def _away(_: Request, error: SQLAlchemyError) -> JSONResponse:
        return away_response(error)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = None if error.headers is None else dict(error.headers)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"Allow": ", ".join(_allowed(app, request))}
        return problem_response(error.status_code, str(error.detail), headers)


def _fault(error: Mapping[str, Any]) -> dict[str, str]:
    """What pydantic found, short however much was given."""
    if error["type"] == "json_invalid":
        return {"field": "body", "detail": str(error["ctx"]["error"])[:500]}
    said = error["msg"].removeprefix("Value error, ")[:500]
    return {
        "field": ".".join(str(part)[:80] for part in error["loc"]),
        "detail": f"{said}, not {shown(error['input'])}",
    }


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods that the routes of a path take: each route knows of its own alone."""
    methods = {
        method
        for route in app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return sorted(methods)
