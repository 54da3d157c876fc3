"""Bodies as JSON: in UTF-8, no key twice in an object."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from nas.service.api.operation_ids import by_name
from nas.service.api.problems import described
from nas.service.uploads.strict_json import distinct
from supernet.errors import NasError


def parsed(content: bytes) -> Any:
    """What a body states.

    Raises:
        NasError: it is not JSON in UTF-8, or has a key twice in an object.
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=distinct)
    except UnicodeDecodeError as error:
        raise NasError("not valid JSON: not in UTF-8") from error
    except RecursionError as error:
        raise NasError("not valid JSON: nested too deeply") from error
    except ValueError as error:
        raise NasError(f"not valid JSON: {error}") from error


class _StrictRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            try:
                self._json = parsed(await self.body())
            except NasError as error:  # what FastAPI expects of a body that is no JSON
                raise json.JSONDecodeError(str(error), "", 0) from error
        return self._json


class StrictRoute(APIRoute):
    """A route whose body is read by :func:`parsed`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


def strict_router(tag: str, *statuses: int) -> APIRouter:
    """A router of ``/v1`` whose bodies are read so.

    Args:
        tag: of its routes in the OpenAPI document.
        statuses: of problems that each of its routes may answer with, besides those that all do.
    """
    return APIRouter(
        prefix="/v1",
        route_class=StrictRoute,
        tags=[tag],
        responses=described(401, 403, 422, 429, *statuses),
        generate_unique_id_function=by_name,
    )


def json_body(model: type[BaseModel], about: str) -> dict[str, Any]:
    """The ``openapi_extra`` of a route that reads its body itself.

    :mod:`nas.service.api.openapi` knows of the model.
    """
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "description": about, "content": content}}
