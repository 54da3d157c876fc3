"""What machines ask that look after the service: is it alive, ready, and what does it count."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from nas.service.api.auth import Reader
from nas.service.api.operation_ids import by_name
from nas.service.api.problems import ProblemError, described
from nas.service.database.revisions import is_current
from nas.service.running.metrics import Metrics
from nas.service.service import Service

_LEAST_FREE_BYTES = 500_000_000

router = APIRouter(tags=["operation"], generate_unique_id_function=by_name)


_REMEMBERED_S = 1.0


class Readiness:
    """What keeps a service from its work, looked at once a second at most, whoever asks."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._until, self._fault = 0.0, ""

    def fault(self) -> str | None:
        """As :func:`fault_of`."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._fault = fault_of(self._service) or ""
                self._until = time.monotonic() + _REMEMBERED_S
            return self._fault or None


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The service can do its work."""

    status: Literal["ready"] = "ready"


@router.get("/healthz")
async def healthz() -> Alive:
    """Whether the process answers; an orchestrator restarts it if not."""
    return Alive()


@router.get("/readyz", responses=described(503))
def readyz(request: Request) -> Ready:
    """Whether requests should be sent here: the database, its tables and the disk are in order."""
    stopping: asyncio.Event = request.app.state.stopping
    readiness: Readiness = request.app.state.readiness
    fault = "the service is shutting down" if stopping.is_set() else readiness.fault()
    if fault is not None:
        raise ProblemError(503, fault, {"Retry-After": "5"})
    return Ready()


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {CONTENT_TYPE_LATEST: {}}, "description": "Prometheus text format"},
        **described(401, 403, 429),
    },
)
def metrics(request: Request, _: Reader) -> Response:
    """Metrics for a Prometheus server."""
    known: Metrics = request.app.state.metrics
    return Response(generate_latest(known.registry), media_type=CONTENT_TYPE_LATEST)


def fault_of(service: Service) -> str | None:
    """What keeps a service from its work, in a line that anybody may read; None if nothing."""
    try:
        if not is_current(service.engine):
            return "the database's tables are of another version; run `nas admin migrate`"
    except SQLAlchemyError:
        return "the database does not answer"
    data = service.settings.data
    if not data.is_dir():
        return "the folder of data is missing"
    if shutil.disk_usage(data).free < _LEAST_FREE_BYTES:
        return f"less than {_LEAST_FREE_BYTES // 1_000_000} MB are free on the disk of the data"
    return None
