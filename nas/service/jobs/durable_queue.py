"""Where searches wait for a worker: DBOS's queue, in the service's own database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient, DBOSPortableJSONSerializer
from sqlalchemy import Connection, Engine

QUEUE = "searches"
WORKFLOW = "search"
APPLICATION = "tailorbert"
VERSION = "1"
"""The version of the workflow, which changes only with the order of its steps. So a worker of a new
release goes on with the jobs of an old one."""

_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_LOST = ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
"""DBOS's statuses of jobs that have ended, and of those whose search has not ended with them."""


class DurableQueue:
    """Where jobs wait; see :class:`nas.service.service.JobQueue`.

    While the database is away, the methods raise SQLAlchemy's errors at once.

    Args:
        engine: of the service's database, which holds DBOS's tables too.
    """

    def __init__(self, engine: Engine) -> None:
        self._client = DBOSClient(
            system_database_engine=engine,
            dbos_system_schema=_schema(engine),
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            retry_connection_errors=False,
            lazy=True,
        )

    def enqueue(
        self, connection: Connection, search_id: str, attempt: int, *, owner: str, priority: int
    ) -> None:
        self._client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": WORKFLOW,
                "queue_name": QUEUE,
                "workflow_id": _workflow_id(search_id, attempt),
                "queue_partition_key": owner,
                "priority": priority,
                "app_version": VERSION,
            },
            search_id,
            attempt,
        )

    def cancel(self, search_id: str, attempt: int) -> None:
        self._client.cancel_workflow(_workflow_id(search_id, attempt))

    def requeue(self, worker: str) -> int:
        """Queue a worker's jobs again, for any worker: how many they are."""
        left = self._ids(executor_id=worker, status="PENDING")
        self._client.resume_workflows(left, queue_name=QUEUE)
        return len(left)

    def lost(self, jobs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of the jobs, given by search and attempt, that DBOS has given up."""
        ids = {_workflow_id(*job): job for job in jobs}
        if not ids:
            return []
        return [ids[one] for one in self._ids(workflow_ids=list(ids), status=_LOST)]

    def ended_before(self, moment: float) -> list[str]:
        """The ids of jobs that ended before a time, in seconds since 1970."""
        before = datetime.fromtimestamp(moment, UTC).isoformat()
        return self._ids(completed_before=before, status=_ENDED)

    def forget(self, ids: Sequence[str]) -> None:
        """Remove all that is kept of jobs that have ended."""
        for first in range(0, len(ids), 1000):
            self._client.delete_workflows(list(ids[first : first + 1000]))

    def _ids(self, **which: Any) -> list[str]:
        found = self._client.list_workflows(load_input=False, load_output=False, **which)
        return [workflow.workflow_id for workflow in found]


def forget_jobs(engine: Engine, before: float, *, dry_run: bool = False) -> int:
    """Remove DBOS's rows of jobs that ended before a time: how many jobs they are.

    The searches stay, because they are in the service's own tables.

    Args:
        before: in seconds since 1970.
        dry_run: only count them.
    """
    if not sa.inspect(engine).has_table("workflow_status", _schema(engine)):
        return 0  # no search was ever queued here
    queue = DurableQueue(engine)
    ids = queue.ended_before(before)
    if not dry_run:
        queue.forget(ids)
    return len(ids)


def _workflow_id(search_id: str, attempt: int) -> str:
    return f"{search_id}-{attempt}"


def _schema(engine: Engine) -> str | None:
    """The schema of DBOS's tables."""
    return None if engine.dialect.name == "sqlite" else "dbos"
