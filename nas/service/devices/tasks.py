"""Tasks: what a search asks of a device, and what its agent makes of it.

A task is ``waiting`` until an agent claims it, then ``claimed``, then ``done`` or ``failed``. The
claims of a task are numbered, and the agent sends the number with all that it reports. A claim ends
with its lease, which every report renews. So a task whose agent was lost can be claimed anew, and
an agent that comes back late is told that the task is no longer its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Engine
from sqlalchemy.exc import IntegrityError

from nas.service.conflicts import ConflictError
from nas.service.database.engine import execute, first_row
from nas.service.database.tables import tasks

Kind = Literal["profile", "time"]
Status = Literal["waiting", "claimed", "done", "failed"]

LEASE_S = 60.0
"""How long after a report a claimed task is its agent's alone."""

MOST_CLAIMS = 20
"""After so many claims a task is given up: it may be the task that ends its agent."""


@dataclass(frozen=True)
class Task:
    """A task, as a row of the table says it.

    Args:
        id: follows from what is asked; see :func:`id_of_task`.
        target: the target's name.
        search_id: the search that asks.
        lease: until when the task is its agent's alone, in seconds since 1970.
        attempts: the number of the last claim, 0 before the first.
        progress: see :class:`latency.profiler.Status`.
        result: of a task that is done.
        error: of a task that has failed.
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
    """A claim of a task: the task's id, and the claim's number."""

    id: str
    attempt: int


class LostError(ConflictError):
    """A task that is no longer the agent's."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(f"task {claim.id} is not claim {claim.attempt}'s any more")


def id_of_task(*asked: Any) -> str:
    """The id of a request, given as JSON values; the same request has the same id."""
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
    """Make a task unless there is one of that id; one that failed is tried again."""
    now = time.time()
    fresh = {"status": "waiting", "updated": now, "lease": None, "attempts": 0}
    fresh |= {"progress": None, "error": None}
    failed = (tasks.c.id == task_id, tasks.c.status == "failed")
    if execute(engine, tasks.update().where(*failed).values(**fresh)) or find_task(engine, task_id):
        return
    about = {"target": target, "search_id": search_id, "kind": kind, "request": dict(request)}
    with suppress(IntegrityError):  # another process of the same search was first
        execute(engine, tasks.insert().values(id=task_id, created=now, **about, **fresh))


def find_task(engine: Engine, task_id: str) -> Task | None:
    """The task of an id."""
    row = first_row(engine, sa.select(tasks).where(tasks.c.id == task_id))
    return None if row is None else Task(**row._asdict())


def claim_task(engine: Engine, target: str, resume: Claim | None = None) -> Task | None:
    """Claim the next task of a target; None where nothing waits.

    Args:
        resume: a claim that the same agent held when it was ended; it may go on before the lease
            has run out, and does so first.
    """
    while True:
        now = time.time()
        expired = sa.and_(tasks.c.status == "claimed", tasks.c.lease < now)
        resumed = sa.false() if resume is None else _held(resume)
        free = sa.or_(tasks.c.status == "waiting", expired, resumed)
        first = sa.case((resumed, 0), else_=1)
        # A read first: most calls find nothing, and writers wait for each other.
        found = first_row(
            engine,
            sa.select(tasks.c.id, tasks.c.attempts)
            .where(tasks.c.target == target, free)
            .order_by(first, tasks.c.created, tasks.c.id)
            .limit(1),
        )
        if found is None:
            return None
        if found.attempts >= MOST_CLAIMS:
            taken: dict[str, Any] = {
                "status": "failed",
                "error": f"{MOST_CLAIMS} times the device's agent began and did not end it",
            }
        else:
            taken = {"status": "claimed", "lease": now + LEASE_S, "attempts": found.attempts + 1}
        same = (tasks.c.id == found.id, tasks.c.attempts == found.attempts, free)
        won = execute(engine, tasks.update().where(*same).values(updated=now, **taken))
        if won and taken["status"] == "claimed":
            return find_task(engine, found.id)


def note_progress(engine: Engine, claim: Claim, progress: Mapping[str, Any]) -> None:
    """Keep how far a task is, and renew its lease.

    Raises:
        LostError: the task is no longer the caller's.
    """
    now = time.time()
    told = {"progress": dict(progress), "updated": now, "lease": now + LEASE_S}
    if not execute(engine, tasks.update().where(_held(claim)).values(**told)):
        raise LostError(claim)


def end_task(
    engine: Engine, data: Path, claim: Claim, *, result: Any = None, error: str | None = None
) -> None:
    """Keep the outcome of a task. The same claim may report again: the first report counts.

    Raises:
        LostError: the task is no longer the caller's.
    """
    outcome = {"status": "done", "result": result} if error is None else {"status": "failed"}
    outcome |= {"updated": time.time(), "lease": None, "error": error}
    held = execute(engine, tasks.update().where(_held(claim)).values(**outcome))
    if not (held or is_ended(engine, claim)):
        raise LostError(claim)
    _remove_files(data, claim.id)


def fail_tasks(connection: Connection, target: str, error: str) -> None:
    """Fail all tasks of a target that have not ended; their agents drop them."""
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
    """Forget a task unless an agent is at it, whose result may serve another search."""
    waiting = (tasks.c.id == task_id, tasks.c.status == "waiting")
    if execute(engine, tasks.delete().where(*waiting)):
        _remove_files(data, task_id)


def forget_tasks(engine: Engine, data: Path, search_id: str) -> None:
    """Forget all tasks of a search that has ended; their agents drop them."""
    of_search = tasks.c.search_id == search_id
    with engine.begin() as connection:
        known = connection.execute(sa.select(tasks.c.id).where(of_search)).scalars().all()
        connection.execute(tasks.delete().where(of_search))
    for one in known:
        _remove_files(data, one)


def task_folder(data: Path, task_id: str) -> Path:
    """The folder of a task's files in the service's data, until the task has ended."""
    return data / "tasks" / task_id


def _held(claim: Claim) -> ColumnElement[bool]:
    return sa.and_(
        tasks.c.id == claim.id, tasks.c.attempts == claim.attempt, tasks.c.status == "claimed"
    )


def _remove_files(data: Path, task_id: str) -> None:
    shutil.rmtree(task_folder(data, task_id), ignore_errors=True)
