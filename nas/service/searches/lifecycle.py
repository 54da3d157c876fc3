"""The searches that a service keeps: made, looked up, and moved from one status to the next.

    queued -> running -> done | failed | cancelled;  failed | cancelled -> queued again (retry)

Each move is one conditional update, so that of several callers one succeeds. The event that tells
of the move is written in the same transaction.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import IntegrityError

from nas.service.access.visibility import forget_shares
from nas.service.conflicts import ConflictError
from nas.service.database.engine import count_in_turn, execute, first_row
from nas.service.database.tables import events as happened
from nas.service.database.tables import searches
from nas.service.searches import events, webhooks
from nas.service.searches.requests import NewSearch, SearchRequest
from nas.service.service import Service
from nas.service.uploads.kept import hold_upload, uploads_named
from supernet.errors import NasError

Status = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")

SearchRow = Row[Any]


def create(
    service: Service, owner: str, new: NewSearch, idempotency_key: str | None
) -> tuple[SearchRow, bool]:
    """A new search, queued; or the earlier one of the same owner and key.

    Args:
        idempotency_key: stands for the request; name, note and webhook may differ.

    Returns:
        The search, and whether it is new.

    Raises:
        ConflictError: the key stands for another request.
        ConflictError: the owner has as many under way as one may have.
        NasError: an upload that it names has just been removed.
    """
    wanted = new.model_dump(mode="json", include=set(SearchRequest.model_fields))
    search_id, now = secrets.token_hex(8), time.time()
    try:
        with service.engine.begin() as connection:
            connection.execute(
                searches.insert().values(
                    id=search_id,
                    owner=owner,
                    created=now,
                    updated=now,
                    status="queued",
                    attempt=1,
                    priority=new.priority,
                    request=wanted,
                    idempotency_key=idempotency_key,
                    expired=False,
                    name=new.name,
                    note=new.note,
                    webhook=new.webhook,
                )
            )
            _queue(connection, service, search_id, 1, owner, new.priority, wanted)
    except IntegrityError:
        same = (searches.c.owner == owner, searches.c.idempotency_key == idempotency_key)
        earlier = first_row(service.engine, sa.select(searches).where(*same))
        if earlier is None:
            raise
        if earlier.request != wanted:
            raise ConflictError(
                f"Idempotency-Key {idempotency_key!r} stands for another request: "
                f"search {earlier.id}"
            ) from None
        return earlier, False
    found = find(service.engine, search_id)
    assert found is not None
    return found, True


def find(engine: Engine, search_id: str) -> SearchRow | None:
    """The search of an id."""
    return first_row(engine, sa.select(searches).where(searches.c.id == search_id))


def describe(engine: Engine, search_id: str, **told: str | None) -> None:
    """Give a search another ``name`` or ``note``; None takes it away."""
    execute(engine, searches.update().where(searches.c.id == search_id).values(**told))


def cancel(service: Service, search: SearchRow) -> None:
    """End a search that is queued or under way; its job stops within seconds.

    Raises:
        ConflictError: it has ended.
    """
    if not _move(service.engine, search.id, search.attempt, ("queued", "running"), "cancelled"):
        raise ConflictError(f"search {search.id} has ended: nothing to cancel")
    service.jobs.cancel(search.id, search.attempt)


def retry(service: Service, search: SearchRow) -> None:
    """Queue a failed or cancelled search again; finished stages are not repeated.

    Raises:
        ConflictError: it has not failed and was not cancelled, or its owner has as many under
            way as one may have.
    """
    attempt, retried = search.attempt + 1, searches.c.status.in_(("failed", "cancelled"))
    fresh = {"status": "queued", "attempt": attempt, "expired": False, "error": None, "stage": None}
    with service.engine.begin() as connection:
        moved = connection.execute(
            searches.update()
            .where(_is(search.id, search.attempt), retried)
            .values(updated=time.time(), **fresh)
        )
        if not moved.rowcount:
            raise ConflictError(
                f"search {search.id} is {search.status}: only one that failed or was cancelled "
                "can be tried again"
            )
        _queue(
            connection, service, search.id, attempt, search.owner, search.priority, search.request
        )


def remove(engine: Engine, search: SearchRow) -> None:
    """Remove the row, the events and the shares of a search that has ended.

    Raises:
        ConflictError: it has not ended.
    """
    with engine.begin() as connection:
        gone = connection.execute(
            searches.delete().where(searches.c.id == search.id, searches.c.status.in_(ENDED))
        )
        if not gone.rowcount:
            raise ConflictError(f"search {search.id} is under way: cancel it first")
        connection.execute(happened.delete().where(happened.c.search_id == search.id))
        forget_shares(connection, "search", search.id)


def begin(engine: Engine, search_id: str, attempt: int) -> bool:
    """Note that a worker has begun a search: whether it is to go on, not cancelled meanwhile."""
    return _move(engine, search_id, attempt, ("queued", "running"), "running")


def is_wanted(engine: Engine, search_id: str, attempt: int) -> bool:
    """Whether a search under way is still to go on."""
    query = sa.select(searches.c.status).where(_is(search_id, attempt))
    return first_row(engine, query) == ("running",)


def under_way(engine: Engine) -> list[tuple[str, int]]:
    """Ids and attempts of all searches that have not ended."""
    query = sa.select(searches.c.id, searches.c.attempt).where(searches.c.status.not_in(ENDED))
    with engine.connect() as connection:
        return [(row.id, row.attempt) for row in connection.execute(query)]


def note_stage(engine: Engine, search_id: str, attempt: int, stage: str) -> None:
    """Note the stage that runs."""
    running = (_is(search_id, attempt), searches.c.status == "running")
    execute(engine, searches.update().where(*running).values(stage=stage, updated=time.time()))


def finish(
    engine: Engine,
    search_id: str,
    attempt: int,
    *,
    models: Sequence[dict[str, Any]] | None = None,
    error: str | None = None,
) -> bool:
    """End a search that has not ended, done with its models or failed with an error.

    Returns:
        whether this call ended it.
    """
    status = "done" if error is None else "failed"
    return _move(
        engine, search_id, attempt, ("queued", "running"), status, error=error, models=models
    )


def _move(
    engine: Engine,
    search_id: str,
    attempt: int,
    before: tuple[str, ...],
    status: str,
    **values: Any,
) -> bool:
    """Move an attempt from one of the statuses ``before`` to another, and tell of it once.

    Returns:
        whether it has that status now: by this call or, if it is among those before, already.
    """
    mine = _is(search_id, attempt)
    with engine.begin() as connection:
        moved = connection.execute(
            searches.update()
            .where(mine, searches.c.status.in_(set(before) - {status}))
            .values(status=status, updated=time.time(), **values)
        )
        if moved.rowcount:
            _tell(connection, search_id, status, attempt, values.get("error"))
            if status in ENDED:
                webhooks.post(connection, search_id)
            return True
        has = connection.execute(sa.select(searches.c.status).where(mine)).scalar_one_or_none()
    return has == status and status in before


def _is(search_id: str, attempt: int) -> sa.ColumnElement[bool]:
    """The condition of an attempt at a search that is still the latest."""
    return sa.and_(searches.c.id == search_id, searches.c.attempt == attempt)


def _tell(
    connection: Connection, search_id: str, status: str, attempt: int, error: str | None = None
) -> None:
    data: dict[str, Any] = {"status": status, "attempt": attempt}
    events.append(
        connection, search_id, "status", data if error is None else data | {"error": error}
    )


def _queue(
    connection: Connection,
    service: Service,
    search_id: str,
    attempt: int,
    owner: str,
    priority: int,
    wanted: Mapping[str, Any],
) -> None:
    """Queue an attempt in the transaction that makes or moves its row.

    Raises:
        ConflictError: the owner has as many searches under way as one may have.
        NasError: an upload that the request names has just been removed.
    """
    most = service.settings.limits.searches_per_user
    waiting = searches.c.status.in_(("queued", "running"))
    if count_in_turn(connection, searches, owner, waiting) > most:
        raise ConflictError(
            f"at most {most} searches of one user may wait or run: cancel one, or wait for an end"
        )
    for kind, name in uploads_named(wanted):
        if name not in service.offered(kind) and not hold_upload(connection, kind, name):
            raise NasError(f"there is no {kind} {name!r} any more")
    _tell(connection, search_id, "queued", attempt)
    service.jobs.enqueue(connection, search_id, attempt, owner=owner, priority=priority)
