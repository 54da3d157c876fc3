"""The queue of jobs in its database: what is told of it, queued again, and forgotten."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

pytest.importorskip("dbos", reason="needs tailorbert[service]")

from nas.service.jobs.durable_queue import DurableQueue, forget_jobs
from nas.service.jobs.worker import migrate_all
from tests.nas.service.databases import on_both

JOBS = [("s1", 1), ("s1", 2), ("s2", 1)]


@on_both
def test_jobs_are_told_of_queued_again_and_forgotten(service):
    migrate_all(service.settings, service.engine)
    queue = DurableQueue(service.engine)
    with service.engine.begin() as connection:
        for job in JOBS:
            queue.enqueue(connection, *job, owner="ada", priority=100)
    sqlite = service.engine.dialect.name == "sqlite"
    table = sa.table(
        "workflow_status",
        *map(sa.column, ("workflow_uuid", "status", "executor_id", "completed_at", "queue_name")),
        schema=None if sqlite else "dbos",
    )

    def change(search_id: str, attempt: int, **values: object) -> None:
        with service.engine.begin() as connection:
            same = table.c.workflow_uuid == f"{search_id}-{attempt}"
            connection.execute(table.update().where(same).values(**values))

    ended = int(1000 * time.time())
    change("s1", 1, status="ERROR", completed_at=ended)
    change("s1", 2, status="PENDING", executor_id="lost")
    assert queue.lost(JOBS) == [("s1", 1)]
    assert queue.lost([]) == []
    assert queue.requeue("other") == 0
    assert queue.requeue("lost") == 1
    assert queue.requeue("lost") == 0
    with service.engine.connect() as connection:
        waiting = connection.execute(sa.select(table).where(table.c.status == "ENQUEUED")).all()
    assert {(row.workflow_uuid, row.queue_name) for row in waiting} == {
        ("s1-2", "searches"),
        ("s2-1", "searches"),
    }
    queue.cancel("s2", 1)
    assert forget_jobs(service.engine, time.time() - 60) == 0
    assert forget_jobs(service.engine, time.time() + 60, dry_run=True) == 2
    assert forget_jobs(service.engine, time.time() + 60) == 2
    with service.engine.connect() as connection:
        assert connection.execute(sa.select(table.c.workflow_uuid)).scalars().all() == ["s1-2"]


def test_a_database_without_jobs_has_none_to_forget(service):
    assert forget_jobs(service.engine, time.time()) == 0
