"""The OpenAPI document: what FastAPI derives, with problem details, headers, examples and links."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from latency.profile_file import ProfileFile
from nas.service.api.problems import MEDIA_TYPE, ProblemDetails
from nas.service.api.tasks import CompleteBody

Json = dict[str, Any]

_METHODS = ("get", "put", "post", "delete", "patch")
_PARAMETER = re.compile(r"{(\w+)}")
_REF = "#/components/schemas/{model}"
_NOT_DERIVED = (ProblemDetails, ProfileFile, CompleteBody)  # bodies that routes read by hand
_REFUSED_BODIES = (400, 408, 413, 415)
_EVENT = {"id": "1", "event": "status", "data": '{"status": "queued", "attempt": 1}'}
_HEADERS: dict[str, Json] = {
    "X-Request-ID": {
        "description": "The request's name: the client's own, if it gave one, or a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "example": "4fd1c3a2b0e95f67",
    },
    "RateLimit": {
        "description": "What is left of the client's allowance, and the seconds until it is whole.",
        "required": True,
        "schema": {"type": "string"},
        "example": '"requests";r=5999;t=60',
    },
    "RateLimit-Policy": {
        "description": "The client's allowance of requests in a time window, in seconds.",
        "required": True,
        "schema": {"type": "string"},
        "example": '"requests";q=6000;w=60',
    },
    "Retry-After": {
        "description": "Seconds after which it is worth another try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
        "example": 5,
    },
    "WWW-Authenticate": {
        "description": "How to say who asks (RFC 6750).",
        "required": True,
        "schema": {"type": "string"},
        "example": "Bearer",
    },
}


class _Maker(NamedTuple):
    """An operation after which others can be called."""

    path: str
    method: str
    makes: str
    parameters: dict[str, str]


_ID = "$response.body#/id"
_MAKERS = (
    _Maker("/v1/searches", "post", "/v1/searches/{search_id}", {"search_id": _ID}),
    _Maker(
        "/v1/searches/{search_id}/models",
        "get",
        "/v1/searches/{search_id}/models/{number}",
        {"search_id": "$request.path.search_id", "number": "$response.body#/0/number"},
    ),
    _Maker("/v1/tokens", "post", "/v1/tokens/{token_id}", {"token_id": _ID}),
    _Maker("/v1/targets/{name}/tasks:claim", "post", "/v1/tasks/{task_id}", {"task_id": _ID}),
    *(
        _Maker(path, "put", path, {"name": "$request.path.name"})
        for path in (
            "/v1/targets/{name}",
            "/v1/datasets/{name}",
            "/v1/teachers/{name}",
            "/v1/supernets/{name}",
        )
    ),
)


def describe(app: FastAPI, *, needs_token: bool) -> None:
    """Have the app tell its OpenAPI document so.

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
    for schema in schemas.values():
        if "example" in schema:
            _restore_nulls(schema["example"], schema, schemas)
    components["headers"] = _HEADERS
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                _complete_operation(operations[method], schemas, path, needs_token)
    if not needs_token:
        components.pop("securitySchemes", None)
    for maker in _MAKERS:
        _link(document["paths"], maker)
    return document


def _complete_operation(operation: Json, schemas: Json, path: str, needs_token: bool) -> None:
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
            if "example" not in media:
                example = example_of(media.get("schema", {}), schemas)
                media |= {} if example is None else {"example": example}
        names = [*_headers_of(status, path), *response.get("headers", ())]
        given = response.get("headers", {})
        response["headers"] = {
            name: given.get(name, {"$ref": f"#/components/headers/{name}"}) for name in names
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


def example_of(schema: Json, schemas: Json) -> Any:
    """An example of what a schema describes: its own, or one put together; None if it has none."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "example" in schema:
        return schema["example"]
    if "const" in schema:
        return schema["const"]
    if schema.get("type") == "array":
        one = example_of(schema.get("items", {}), schemas)
        return None if one is None else [one]
    if schema.get("type") == "object":
        parts = {
            name: example_of(part, schemas) for name, part in schema.get("properties", {}).items()
        }
        return parts if any(part is not None for part in parts.values()) else None
    return None


def _restore_nulls(example: Any, schema: Json, schemas: Json) -> None:
    """Put in an example again what FastAPI leaves out of its document: values that are null."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    for branch in schema.get("anyOf", ()):
        _restore_nulls(example, branch, schemas)
    if isinstance(example, list):
        for one in example:
            _restore_nulls(one, schema.get("items", {}), schemas)
    elif isinstance(example, dict):
        for name, part in schema.get("properties", {}).items():
            if name in example:
                _restore_nulls(example[name], part, schemas)
            elif name in schema.get("required", ()):
                example[name] = None


def _link(paths: Json, maker: _Maker) -> None:
    """Tell which operations are about what an operation has made."""
    own = paths[maker.path][maker.method]
    links = {}
    for path, operations in paths.items():
        if path.startswith(maker.makes) and set(_PARAMETER.findall(path)) == set(maker.parameters):
            for method in _METHODS:
                if method in operations and operations[method] is not own:
                    name = operations[method]["operationId"]
                    links[name] = {"operationId": name, "parameters": maker.parameters}
    for status in ("200", "201"):
        if status in own["responses"]:
            own["responses"][status]["links"] = links
