"""The searches that a service keeps: made, looked up, and moved from one status to the next.

    queued -> running -> done | failed | cancelled;  failed | cancelled -> queued again (retry)

Each move is one conditional update, so that of several who try it one succeeds; the event that
tells of it is written in the same transaction.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import IntegrityError

from nas.data.sources import PYDOC
from nas.service import events, webhooks
from nas.service.access import forget_shares
from nas.service.database import take_turns
from nas.service.requests import EMBEDDED_TEACHER, NewSearch, SearchRequest
from nas.service.service import Service
from nas.service.tables import events as happened
from nas.service.tables import searches
from nas.service.uploads.kept import hold_upload, uploads_named
from supernet.errors import NasError

ENDED = ("done", "failed", "cancelled")

SearchRow = Row[Any]


class OtherRequestError(NasError):
    """An idempotency key that stands for another request."""


class NotPossibleError(NasError):
    """What a search's status, or how many its owner has, does not allow."""


def create(
    service: Service, owner: str, new: NewSearch, idempotency_key: str | None
) -> tuple[SearchRow, bool]:
    """A new search, queued; or the earlier one of the same owner and key.

    Args:
        idempotency_key: stands for the request; name, note and webhook may differ.

    Returns:
        The search, and whether it is new.

    Raises:
        OtherRequestError: the key stands for another request.
        NotPossibleError: the owner has as many under way as one may have.
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
            _check_room(connection, service, owner)
            _hold_uploads(connection, service, wanted)
            _tell(connection, search_id, "queued", 1)
            service.jobs.enqueue(connection, search_id, 1, owner=owner, priority=new.priority)
    except IntegrityError:
        earlier = _of_key(service.engine, owner, idempotency_key)
        if earlier is None:
            raise
        if earlier.request != wanted:
            raise OtherRequestError(
                f"Idempotency-Key {idempotency_key!r} stands for another request: "
                f"search {earlier.id}"
            ) from None
        return earlier, False
    found = find(service.engine, search_id)
    assert found is not None
    return found, True


def find(engine: Engine, search_id: str) -> SearchRow | None:
    """The search of an id."""
    with engine.connect() as connection:
        return connection.execute(
            sa.select(searches).where(searches.c.id == search_id)
        ).one_or_none()


def describe(engine: Engine, search_id: str, **told: str | None) -> None:
    """Give a search another ``name`` or ``note``; None takes it away."""
    with engine.begin() as connection:
        connection.execute(searches.update().where(searches.c.id == search_id).values(**told))


def cancel(service: Service, search: SearchRow) -> None:
    """End a search that is queued or under way; its job stops within seconds.

    Raises:
        NotPossibleError: it has ended.
    """
    if not _move(service.engine, search.id, search.attempt, ("queued", "running"), "cancelled"):
        raise NotPossibleError(f"search {search.id} has ended: nothing to cancel")
    service.jobs.cancel(search.id, search.attempt)


def retry(service: Service, search: SearchRow) -> None:
    """Queue a failed or cancelled search again; finished stages are not repeated.

    Raises:
        NotPossibleError: it has not failed and was not cancelled, or its owner has as many under
            way as one may have.
    """
    attempt = search.attempt + 1
    with service.engine.begin() as connection:
        moved = connection.execute(
            searches.update()
            .where(
                searches.c.id == search.id,
                searches.c.attempt == search.attempt,
                searches.c.status.in_(("failed", "cancelled")),
            )
            .values(
                status="queued",
                attempt=attempt,
                expired=False,
                error=None,
                stage=None,
                updated=time.time(),
            )
        )
        if not moved.rowcount:
            raise NotPossibleError(
                f"search {search.id} is {search.status}: only one that failed or was cancelled "
                "can be tried again"
            )
        _check_room(connection, service, search.owner)
        _hold_uploads(connection, service, search.request)
        _tell(connection, search.id, "queued", attempt)
        service.jobs.enqueue(
            connection, search.id, attempt, owner=search.owner, priority=search.priority
        )


def remove(engine: Engine, search: SearchRow) -> None:
    """Take a search that has ended out of the records, its events with it.

    Raises:
        NotPossibleError: it has not ended.
    """
    with engine.begin() as connection:
        gone = connection.execute(
            searches.delete().where(searches.c.id == search.id, searches.c.status.in_(ENDED))
        )
        if not gone.rowcount:
            raise NotPossibleError(f"search {search.id} is under way: cancel it first")
        connection.execute(happened.delete().where(happened.c.search_id == search.id))
        forget_shares(connection, "search", search.id)


def begin(engine: Engine, search_id: str, attempt: int) -> bool:
    """Note that a worker has taken a search up.

    Returns:
        whether it is to go on: it may have been cancelled meanwhile.
    """
    return _move(engine, search_id, attempt, ("queued", "running"), "running")


def is_wanted(engine: Engine, search_id: str, attempt: int) -> bool:
    """Whether a search under way is still to go on."""
    query = sa.select(searches.c.attempt, searches.c.status).where(searches.c.id == search_id)
    with engine.connect() as connection:
        return connection.execute(query).one_or_none() == (attempt, "running")


def under_way(engine: Engine) -> list[tuple[str, int]]:
    """Ids and attempts of all searches that have not ended."""
    query = sa.select(searches.c.id, searches.c.attempt).where(searches.c.status.not_in(ENDED))
    with engine.connect() as connection:
        return [(row.id, row.attempt) for row in connection.execute(query)]


def note_stage(engine: Engine, search_id: str, attempt: int, stage: str) -> None:
    """Note the stage that runs."""
    with engine.begin() as connection:
        connection.execute(
            searches.update()
            .where(
                searches.c.id == search_id,
                searches.c.attempt == attempt,
                searches.c.status == "running",
            )
            .values(stage=stage, updated=time.time())
        )


def finish(
    engine: Engine,
    search_id: str,
    attempt: int,
    *,
    models: Sequence[dict[str, Any]] | None = None,
    error: str | None = None,
) -> bool:
    """End a search that has not ended: done with its models, or failed with an error.

    Returns:
        whether this call ended it, and none before.
    """
    status = "done" if error is None else "failed"
    more: dict[str, Any] = {"error": error, "models": None if models is None else list(models)}
    return _move(engine, search_id, attempt, ("queued", "running"), status, **more)


def _move(
    engine: Engine,
    search_id: str,
    attempt: int,
    before: tuple[str, ...],
    status: str,
    **values: Any,
) -> bool:
    """Give an attempt another status, if it has one of those before, and tell of it once.

    Returns:
        whether it has that status now, by this call or as one of those before.
    """
    mine = (searches.c.id == search_id, searches.c.attempt == attempt)
    with engine.begin() as connection:
        moved = connection.execute(
            searches.update()
            .where(*mine, searches.c.status.in_(set(before) - {status}))
            .values(status=status, updated=time.time(), **values)
        )
        if moved.rowcount:
            _tell(connection, search_id, status, attempt, values.get("error"))
            if status in ENDED:
                webhooks.post(connection, search_id)
            return True
        has = connection.execute(sa.select(searches.c.status).where(*mine)).scalar_one_or_none()
    return has == status and status in before


def _tell(
    connection: Connection, search_id: str, status: str, attempt: int, error: str | None = None
) -> None:
    data: dict[str, Any] = {"status": status, "attempt": attempt}
    events.append(
        connection, search_id, "status", data if error is None else data | {"error": error}
    )


def _check_room(connection: Connection, service: Service, owner: str) -> None:
    """Refuse, in the transaction that queues it, a search too many."""
    most = service.settings.limits.searches_per_user
    waiting = sa.and_(searches.c.owner == owner, searches.c.status.in_(("queued", "running")))
    take_turns(connection, f"searches of {owner}")
    query = sa.select(sa.func.count()).select_from(searches).where(waiting)
    if connection.execute(query).scalar_one() > most:
        raise NotPossibleError(
            f"at most {most} searches of one user may wait or run: cancel one, or wait for an end"
        )


def _hold_uploads(connection: Connection, service: Service, wanted: Mapping[str, Any]) -> None:
    """Keep what a search names from being removed before the search is there."""
    settings = service.settings
    own: dict[str, set[str]] = {
        "dataset": {PYDOC, *settings.datasets},
        "teacher": {EMBEDDED_TEACHER, *settings.teachers},
        "supernet": set(),
    }
    for kind, name in uploads_named(wanted):
        if name not in own[kind] and not hold_upload(connection, kind, name):
            raise NasError(f"there is no {kind} {name!r} any more")


def _of_key(engine: Engine, owner: str, key: str | None) -> SearchRow | None:
    if key is None:
        return None
    with engine.connect() as connection:
        return connection.execute(
            sa.select(searches).where(searches.c.owner == owner, searches.c.idempotency_key == key)
        ).one_or_none()
