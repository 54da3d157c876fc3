"""What clients call an operation: its function's name, as in the OpenAPI document."""

from __future__ import annotations

from fastapi.routing import APIRoute


def by_name(route: APIRoute) -> str:
    """The ``operationId`` of a route."""
    return route.name
