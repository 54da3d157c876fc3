"""Everything that a request passes before it reaches a route, from the outside in."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.datastructures import State
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from nas.service.api.audit import Audited
from nas.service.api.auth import Identified
from nas.service.api.body_limits import BodyLimits
from nas.service.api.observation import Observation
from nas.service.api.origins import Origins
from nas.service.api.rates import Rates
from nas.service.api.response_headers import ResponseHeaders
from nas.service.service import Service


def protect(app: FastAPI, service: Service) -> None:
    """Put the layers around an application, whose state has its metrics and known tokens."""
    app.add_middleware(_Edge, state=app.state, service=service)


class _Edge:
    def __init__(self, app: ASGIApp, state: State, service: Service) -> None:
        settings = service.settings
        self._app = app
        layers: ASGIApp = Audited(app, service.engine)
        layers = BodyLimits(layers, settings.limits)
        layers = Identified(layers, service, state.known_tokens)
        if settings.origins:
            layers = CORSMiddleware(
                layers,
                allow_origins=settings.origins,
                allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
                allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"),
                expose_headers=("ETag", "Location", "Retry-After", "X-Request-ID"),
            )
        layers = Rates(
            layers, settings.limits.requests_per_minute, state.known_tokens, state.metrics
        )
        layers = Origins(layers, settings)
        layers = Observation(layers, state.metrics)
        self._layers: ASGIApp = ResponseHeaders(layers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._layers if scope["type"] == "http" else self._app)(scope, receive, send)
