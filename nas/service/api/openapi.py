"""The OpenAPI document: what FastAPI derives, and what layers around the routes add to answers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from latency.profile_file import ProfileFile
from nas.service.api.problems import MEDIA_TYPE, ProblemDetails
from nas.service.api.tasks import CompleteBody

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_NOT_DERIVED = (ProblemDetails, ProfileFile, CompleteBody)  # bodies that routes read by hand
_REFUSED_BODIES = (400, 408, 413, 415)
_EVENT = {"id": "1", "event": "status", "data": '{"status": "queued", "attempt": 1}'}
_HEADERS: dict[str, Json] = {
    "X-Request-ID": {
        "description": "The request's name: the client's own, if it gave one, or a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "RateLimit": {
        "description": "What is left of the client's allowance, and the seconds until it is whole.",
        "required": True,
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The client's allowance of requests in a time window, in seconds.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which it is worth another try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to say who asks (RFC 6750).",
        "required": True,
        "schema": {"type": "string"},
    },
}


def describe(app: FastAPI, *, needs_token: bool) -> None:
    """Have the app serve its OpenAPI document with these additions.

    Args:
        needs_token: whether requests are refused without a token.
    """

    def document() -> Json:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            app.openapi_schema = completed(found, needs_token=needs_token)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # as FastAPI's own guide has it


def completed(document: Json, *, needs_token: bool) -> Json:
    """FastAPI's document with what it cannot know."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _, derived = models_json_schema(
        [(model, "validation") for model in _NOT_DERIVED], ref_template=_REF
    )
    schemas |= derived["$defs"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["headers"] = _HEADERS
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(operation, path, needs_token)
    if not needs_token:
        components.pop("securitySchemes", None)
    return document


def _complete(operation: Json, path: str, needs_token: bool) -> None:
    """Tell of an operation's refusals, of their form, and of the headers of all its answers."""
    responses = operation["responses"]
    if not needs_token:
        operation.pop("security", None)
        for status in ("401", "403"):
            responses.pop(status, None)
    for content_type in operation.get("requestBody", {}).get("content", ()):
        for code in _REFUSED_BODIES:
            if code != 415 or content_type == "application/json":
                responses.setdefault(str(code), {"description": HTTPStatus(code).phrase})
    problem = {"$ref": _REF.format(model="ProblemDetails")}
    for status, response in responses.items():
        if status.startswith(("4", "5")):
            response["content"] = {MEDIA_TYPE: {"schema": problem}}
        for media in response.get("content", {}).values():
            if "itemSchema" in media:  # of OpenAPI 3.2; in 3.1 the schema is of an event too
                media |= {"schema": media.pop("itemSchema"), "example": _EVENT}
        response["headers"] = {
            name: {"$ref": f"#/components/headers/{name}"} for name in _headers_of(status, path)
        }


def _headers_of(status: str, path: str) -> list[str]:
    """The headers that every response of a status has."""
    names = ["X-Request-ID"]
    if path not in ("/healthz", "/readyz"):
        names += ["RateLimit", "RateLimit-Policy"]
    if status in ("429", "503"):
        names.append("Retry-After")
    if status == "401":
        names.append("WWW-Authenticate")
    return names
