"""The HTTP application: routes put together, errors as problem details."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from fastapi import FastAPI

from nas.service.api import (
    architectures,
    audit,
    catalog,
    models,
    operations,
    page,
    searches,
    targets,
    tasks,
    tokens,
    trials,
    uploads,
)
from nas.service.api.architectures import Fronts
from nas.service.api.auth import KnownTokens, refuse_open_routes
from nas.service.api.edge import protect
from nas.service.api.openapi import describe
from nas.service.api.operation_ids import by_name
from nas.service.api.problems import handle_problems
from nas.service.running.metrics import Metrics
from nas.service.running.traces import trace_requests
from nas.service.searches.broadcast import Broadcast
from nas.service.service import Service

DESCRIPTION = """
From a latency budget on a device to a BERT-like model that meets it, measured.

Create a search, follow its events, download its models. Every error is a problem detail
(RFC 9457) whose `detail` says in one line what was given and what is accepted.
"""


def create_app(service: Service) -> FastAPI:
    """The application of a service, whose database is migrated.

    Raises:
        NasError: traces are asked for, and their packages are not installed.
    """
    app = FastAPI(
        title="TailorBERT",
        version=version("tailorbert"),
        description=DESCRIPTION,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        generate_unique_id_function=by_name,
    )
    app.state.service = service
    app.state.known_tokens = KnownTokens()
    app.state.fronts = Fronts()
    app.state.readiness = operations.Readiness(service)
    app.state.metrics = Metrics(
        service.engine, service.settings.data, private=service.settings.private
    )
    app.state.stopping = asyncio.Event()  # at which streams end
    app.state.broadcast = Broadcast(service.engine, app.state.stopping.is_set)
    handle_problems(app)
    for module in (
        searches,
        models,
        architectures,
        catalog,
        tokens,
        audit,
        operations,
        page,
        uploads,
        trials,
        targets,
        tasks,
    ):
        # `include_router` would build each route anew, which takes a tenth of a second.
        app.router.routes.extend(module.router.routes)
    refuse_open_routes(app)
    describe(app, needs_token=service.settings.needs_token)
    protect(app, service)
    trace_requests(app, service.settings)
    return app
