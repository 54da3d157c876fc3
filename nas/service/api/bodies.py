"""Bodies as JSON: in UTF-8, no key twice in an object, and no larger than they may be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from nas.service.api.problems import ProblemError


async def read_body(request: Request, most_bytes: int) -> bytes:
    """A body, refused as soon as it is larger than it may be.

    Raises:
        ProblemError: too large, or not sent to its end.
    """
    content = bytearray()
    try:
        async for part in request.stream():
            content += part
            if len(content) > most_bytes:
                raise ProblemError(413, f"the body is larger than {most_bytes} bytes")
    except ClientDisconnect as error:
        raise ProblemError(400, "the body was not sent to its end") from error
    return bytes(content)


def parsed(content: bytes) -> Any:
    """What a body holds.

    Raises:
        ProblemError: it is not JSON.
    """
    try:
        return strict_json(content)
    except (ValueError, RecursionError) as error:
        raise ProblemError(422, f"the body is not valid JSON: {error}") from error


def strict_json(content: bytes) -> Any:
    """What JSON states.

    Raises:
        json.JSONDecodeError: it is none, in another encoding than UTF-8, or has a key twice in an
            object, of which readers take now the first and now the last.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError("not in UTF-8", "", error.start) from error

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            raise json.JSONDecodeError(f"key {twice[:40]!r} stands twice in an object", "", 0)
        return found

    return json.loads(text, object_pairs_hook=distinct)


class _StrictRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = strict_json(await self.body())
        return self._json


class StrictRoute(APIRoute):
    """A route whose body is read by :func:`strict_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


def json_body(model: type[BaseModel], about: str, example: Any) -> dict[str, Any]:
    """The ``openapi_extra`` of a route whose body :func:`read_body` reads.

    :mod:`nas.service.api.openapi` knows of the model.
    """
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "description": about, "content": content}}
