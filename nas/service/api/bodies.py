"""Bodies that are too large to be read before it is known whose they are."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
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
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ProblemError(422, f"the body is not valid JSON: {error}") from error


def json_body(model: type[BaseModel], about: str, example: Any) -> dict[str, Any]:
    """The ``openapi_extra`` of a route whose body :func:`read_body` reads.

    :mod:`nas.service.api.openapi` knows of the model.
    """
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "description": about, "content": content}}
