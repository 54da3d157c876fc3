"""The audit log: written for each request that may change something, read at ``/v1/audit``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import sqlalchemy as sa
import structlog
from anyio import to_thread
from fastapi import Query
from pydantic import BaseModel
from sqlalchemy import Engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.service.access.audit import record
from nas.service.api.auth import Admin, The
from nas.service.api.bodies import strict_router
from nas.service.api.observation import route_of
from nas.service.api.origins import SAFE_METHODS
from nas.service.api.owned import Page
from nas.service.api.paging import Cursor, Limit, page_of
from nas.service.api.response_headers import request_id_of
from nas.service.database.tables import audit

_log = structlog.stdlib.get_logger(__name__)

_COMMONPLACE = (":query", ":predict", ":claim", ":progress")
"""Verbs that come by the thousands and change nothing that lasts: recorded only when refused."""


class Audited:
    """Records requests of known callers that reached a route, before their answer goes out."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app, self._engine = app, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        answered = False

        async def recorded(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                await self._record(scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, recorded)
        except Exception:
            if not answered:
                await self._record(scope, 500)
            raise

    async def _record(self, scope: Scope, status: int) -> None:
        if "route" not in scope or status == 405:
            return
        route = route_of(scope)
        if route.endswith(_COMMONPLACE) and status != 403:
            return
        try:
            await to_thread.run_sync(
                lambda: record(
                    self._engine,
                    scope["state"].get("caller"),
                    f"{scope['method']} {route}",
                    "/".join(map(str, scope["path_params"].values()))
                    or scope["state"].get("made", ""),
                    status,
                    request_id=request_id_of(scope),
                    address=scope["client"][0] if scope.get("client") else "",
                )
            )
        except sa.exc.SQLAlchemyError:
            # What was asked for is done or refused by now, and its answer must say so.
            _log.exception("audit entry lost", method=scope["method"], route=route, status=status)


class AuditEntry(BaseModel, from_attributes=True):
    """One request that may have changed something."""

    created: datetime
    actor: str
    token_id: str | None
    action: str
    subject: str
    outcome: Literal["done", "refused", "invalid", "failed"]
    request_id: str
    address: str


router = strict_router("operation")

Actor = Annotated[str | None, Query(max_length=64, description="A user.")]


@router.get("/audit")
def list_audit(
    _: Admin, service: The, actor: Actor = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[AuditEntry]:
    """Who did what, newest first: requests that changed something, and those that were refused."""
    query = sa.select(audit)
    if actor is not None:
        query = query.where(audit.c.actor == actor)
    rows, further = page_of(service.engine, query, audit.c.created, audit.c.id, limit, cursor)
    return Page(items=[AuditEntry.model_validate(row) for row in rows], next=further)
