"""Tasks: what a search asks of a device, and what its agent makes of it.

A task is ``waiting`` until an agent claims it, then ``claimed``, then ``done`` or ``failed``. A
claim is a number, one more each time, which the agent shows with all that it says of the task; it
ends with its lease, which every sign of life renews. So a task whose agent was lost is claimed
anew, and an agent that comes back late is told that it is no longer its.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Engine
from sqlalchemy.exc import IntegrityError

from nas.service.tables import tasks

Kind = Literal["profile", "time"]
Status = Literal["waiting", "claimed", "done", "failed"]

LEASE_S = 60.0
"""For so long after a sign of life, a claimed task is its agent's alone."""

MOST_CLAIMS = 20
"""A task that so many claims did not end is given up: it may be what ends its agent."""


@dataclass(frozen=True)
class Task:
    """A task as kept.

    Args:
        id: follows from what is asked; see :func:`id_of_task`.
        target: its name.
        search_id: of the search that asks.
        request: what is asked.
        lease: until when it is its agent's alone, in seconds since 1970.
        attempts: the number of its claim, 0 before the first.
        progress: see :class:`latency.profiler.Status`.
        result: of a task that is done.
        error: of one that has failed.
    """

    id: str
    target: str
    search_id: str | None
    kind: Kind
    request: dict[str, Any]
    status: Status
    created: float
    updated: float
    lease: float | None
    attempts: int
    progress: dict[str, Any] | None
    result: Any
    error: str | None


class Claim(NamedTuple):
    """A task, and which of its claims."""

    id: str
    attempt: int


class LostError(Exception):
    """A task that is no longer the agent's."""


def id_of_task(*asked: Any) -> str:
    """The id of what is asked, JSON values: whoever asks the same again finds the same task."""
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def submit_task(
    engine: Engine,
    task_id: str,
    *,
    target: str,
    search_id: str | None,
    kind: Kind,
    request: Mapping[str, Any],
) -> None:
    """Have a task done. One that is there already stands; if it failed, it is tried again."""
    now = time.time()
    fresh = {"status": "waiting", "updated": now, "lease": None, "attempts": 0}
    fresh |= {"progress": None, "error": None}
    with engine.begin() as connection:
        again = connection.execute(
            tasks.update().where(tasks.c.id == task_id, tasks.c.status == "failed").values(**fresh)
        )
    if again.rowcount or find_task(engine, task_id) is not None:
        return
    try:
        with engine.begin() as connection:
            connection.execute(
                tasks.insert().values(
                    id=task_id,
                    target=target,
                    search_id=search_id,
                    kind=kind,
                    request=dict(request),
                    created=now,
                    **fresh,
                )
            )
    except IntegrityError:
        return  # another process of the same search was first


def find_task(engine: Engine, task_id: str) -> Task | None:
    """The task of an id."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(tasks).where(tasks.c.id == task_id)).one_or_none()
    return None if row is None else Task(**row._asdict())


def claim_task(engine: Engine, target: str, resume: Claim | None = None) -> Task | None:
    """The next task of a target, now the caller's; None where nothing waits.

    Args:
        resume: a claim that the same agent held when it was ended; its lease does not count.
    """
    while True:
        free = _claimable(target, time.time(), resume)
        first = [] if resume is None else [sa.case((_held(resume), 0), else_=1)]
        with engine.connect() as connection:  # a look first: most find nothing, and writers queue
            found = connection.execute(
                sa.select(tasks.c.id, tasks.c.attempts)
                .where(free)
                .order_by(*first, tasks.c.created, tasks.c.id)
                .limit(1)
            ).one_or_none()
        if found is None:
            return None
        now = time.time()
        if found.attempts >= MOST_CLAIMS:
            taken: dict[str, Any] = {
                "status": "failed",
                "error": f"{MOST_CLAIMS} times the device's agent began and did not end it",
            }
        else:
            taken = {"status": "claimed", "lease": now + LEASE_S, "attempts": found.attempts + 1}
        with engine.begin() as connection:
            won = connection.execute(
                tasks.update()
                .where(tasks.c.id == found.id, tasks.c.attempts == found.attempts, free)
                .values(updated=now, **taken)
            )
        if won.rowcount and taken["status"] == "claimed":
            return find_task(engine, found.id)


def note_progress(engine: Engine, claim: Claim, progress: Mapping[str, Any]) -> None:
    """Keep how far a task is, and renew its lease.

    Raises:
        LostError: it is not the caller's.
    """
    now = time.time()
    with engine.begin() as connection:
        held = connection.execute(
            tasks.update()
            .where(_held(claim))
            .values(progress=dict(progress), updated=now, lease=now + LEASE_S)
        )
    if not held.rowcount:
        raise LostError


def end_task(
    engine: Engine, data: Path, claim: Claim, *, result: Any = None, error: str | None = None
) -> None:
    """Keep what came of a task. The same claim may say it again: the first time counts.

    Raises:
        LostError: it is not the caller's.
    """
    outcome = {"status": "done", "result": result} if error is None else {"status": "failed"}
    with engine.begin() as connection:
        held = connection.execute(
            tasks.update()
            .where(_held(claim))
            .values(updated=time.time(), lease=None, error=error, **outcome)
        )
    if not (held.rowcount or is_ended(engine, claim)):
        raise LostError
    _remove_files(data, claim.id)


def fail_tasks(connection: Connection, target: str, error: str) -> None:
    """Give up all that is asked of a target; an agent that is at something drops it."""
    connection.execute(
        tasks.update()
        .where(tasks.c.target == target, tasks.c.status.in_(("waiting", "claimed")))
        .values(status="failed", updated=time.time(), lease=None, error=error)
    )


def is_ended(engine: Engine, claim: Claim) -> bool:
    """Whether a claim has ended its task."""
    task = find_task(engine, claim.id)
    return task is not None and task.attempts == claim.attempt and task.status in ("done", "failed")


def withdraw_unclaimed(engine: Engine, data: Path, task_id: str) -> None:
    """Forget a task that no agent is at; what one measures just now may serve another search."""
    with engine.begin() as connection:
        gone = connection.execute(
            tasks.delete().where(tasks.c.id == task_id, tasks.c.status == "waiting")
        )
    if gone.rowcount:
        _remove_files(data, task_id)


def forget_tasks(engine: Engine, data: Path, search_id: str) -> None:
    """Forget all tasks of a search that has ended: an agent that is at one drops it."""
    with engine.begin() as connection:
        ids = connection.execute(
            sa.select(tasks.c.id).where(tasks.c.search_id == search_id)
        ).scalars()
        known = list(ids)
        connection.execute(tasks.delete().where(tasks.c.search_id == search_id))
    for one in known:
        _remove_files(data, one)


def task_folder(data: Path, task_id: str) -> Path:
    """Where the files of a task stand in the service's data while it is not done."""
    return data / "tasks" / task_id


def _held(claim: Claim) -> ColumnElement[bool]:
    return sa.and_(
        tasks.c.id == claim.id, tasks.c.attempts == claim.attempt, tasks.c.status == "claimed"
    )


def _claimable(target: str, now: float, resume: Claim | None) -> ColumnElement[bool]:
    expired = sa.and_(tasks.c.status == "claimed", tasks.c.lease < now)
    free = sa.or_(tasks.c.status == "waiting", expired)
    if resume is not None:
        free = sa.or_(free, _held(resume))
    return sa.and_(tasks.c.target == target, free)


def _remove_files(data: Path, task_id: str) -> None:
    shutil.rmtree(task_folder(data, task_id), ignore_errors=True)
