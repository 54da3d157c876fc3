"""Several workers, processes that crash, a database that goes away, and a stop in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

pytest.importorskip("dbos", reason="needs tailorbert[service]")

from nas.service.database.engine import open_database
from nas.service.database.tables import events
from nas.service.jobs.durable_queue import forget_jobs
from nas.service.service import NobodysQueue, Service
from nas.service.settings import load_service
from supernet.configs import read_config
from tests.nas.conftest import PostgresServer
from tests.nas.service.live import wait_for
from tests.nas.service.seeded import finished_search
from tests.nas.service.serving import (
    Served,
    descendants,
    job_processes,
    runs,
    serving,
    write_questions,
)

pytestmark = pytest.mark.slow

# A device that nobody runs an agent for: whoever waits for it takes no time of a processor.
PI = {"target": {"threads": 1, "batch_size": 1, "sequence_length": 64}}
WANTED = {
    "budgets": ["1000ms"],
    "space": "tiny",
    "data": "questions",
    "targets": ["pi"],
    "recipe": read_config("recipes", "smoke") | {"limit": 60},
}


class Watched:
    """A served service, and what its database says of it."""

    def __init__(self, served: Served) -> None:
        self.served = served
        settings = load_service(str(served.config))
        self.engine = open_database(settings.database_url)
        self.service = Service(settings, self.engine, NobodysQueue())
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def work(self, name: str) -> subprocess.Popen[bytes]:
        self.workers[name] = self.served.begin("worker", "--name", name)
        return self.workers[name]

    def begin_waiting(self, seed: int) -> str:
        """A search that waits for the device."""
        search_id = self.served.submit(**WANTED, seed=seed)
        self.served.await_stage(search_id, "profiles")
        return search_id

    def worker_of(self, search_id: str) -> str | None:
        """Who is at a search."""
        table = (
            "workflow_status" if self.engine.dialect.name == "sqlite" else "dbos.workflow_status"
        )
        query = f"select executor_id from {table} where workflow_uuid like :id and status='PENDING'"
        with self.engine.connect() as connection:
            return connection.execute(sa.text(query), {"id": f"{search_id}-%"}).scalar_one_or_none()

    def told(self, search_id: str, kind: str) -> list[dict[str, Any]]:
        query = (
            sa.select(events.c.data)
            .where(events.c.search_id == search_id, events.c.kind == kind)
            .order_by(events.c.number)
        )
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def statuses(self, search_id: str) -> list[str]:
        return [data["status"] for data in self.told(search_id, "status")]

    def began(self, search_id: str, stage: str) -> int:
        """How often a stage was begun."""
        return self.told(search_id, "stage").count({"stage": stage, "state": "began"})

    def cancel(self, search_id: str) -> None:
        assert self.served.client.post(f"/v1/searches/{search_id}:cancel").status_code == 200

    def remove_device(self) -> None:
        """Whoever waits for it fails at once."""
        assert self.served.client.delete("/v1/targets/pi").status_code == 204


@contextmanager
def watching(folder: Path, **settings: Any) -> Iterator[Watched]:
    data = write_questions(folder / "questions")
    with serving(folder, datasets={"questions": str(data)}, **settings) as served:
        assert served.client.put("/v1/targets/pi", json=PI).status_code in (200, 201)
        watched = Watched(served)
        try:
            yield watched
        finally:
            for process in watched.workers.values():
                process.kill()
                process.wait()
            watched.engine.dispose()


SILENCE = {"worker_silence_s": 10}


def search_taken_over(watched: Watched) -> str:
    """A search that worker ``b`` works at, since ``a`` was killed."""
    workers = watched.work("a"), watched.work("b")
    one, two = watched.begin_waiting(1), watched.begin_waiting(2)
    shared = {watched.worker_of(one): one, watched.worker_of(two): two}
    assert set(shared) == {"a", "b"}

    workers[0].kill()
    watched.cancel(shared["b"])
    orphan = shared["a"]
    wait_for(lambda: watched.worker_of(orphan) == "b")
    wait_for(lambda: watched.began(orphan, "profiles") == 2)
    assert watched.began(orphan, "data") == 1
    return orphan


def test_workers_share_searches_and_take_over_those_of_a_killed_one(tmp_path):
    with watching(tmp_path, works=False, jobs=SILENCE) as watched:
        orphan = search_taken_over(watched)
        watched.remove_device()
        wait_for(lambda: watched.statuses(orphan)[-1] == "failed")
        assert watched.statuses(orphan) == ["queued", "running", "failed"]
        wait_for(lambda: watched.worker_of(orphan) is None)
        assert forget_jobs(watched.engine, float("1e11")) == 2


def test_workers_outlive_their_database_and_hand_over_when_they_are_stopped(
    tmp_path, postgres_server, postgres_database
):
    database = postgres_database.replace("postgresql+psycopg2://", "postgresql://")
    with watching(tmp_path, works=False, database=database, jobs=SILENCE) as watched:
        orphan = search_taken_over(watched)
        third_worker = watched.work("c")
        wait_for(lambda: third_worker.pid and "worker c waits" in watched.served.log.read_text())
        restart(postgres_server, watched.served)
        other = watched.begin_waiting(3)
        assert watched.worker_of(other) == "c"
        assert watched.worker_of(orphan) == "b"

        watched.workers["b"].terminate()
        assert watched.workers["b"].wait(120) == 0
        assert watched.worker_of(orphan) is None
        watched.cancel(other)
        wait_for(lambda: watched.worker_of(orphan) == "c")
        wait_for(lambda: watched.began(orphan, "profiles") == 3)
        watched.remove_device()
        wait_for(lambda: watched.statuses(orphan)[-1] == "failed")
        assert watched.statuses(orphan) == ["queued", "running", "failed"]
        third_worker.terminate()
        assert third_worker.wait(120) == 0
        assert forget_jobs(watched.engine, float("1e11")) == 3
        assert forget_jobs(watched.engine, float("1e11")) == 0


def kill_one(processes: list[int]) -> bool:
    """Kill the first of them, if there is any."""
    for pid in processes[:1]:
        os.kill(pid, signal.SIGKILL)
    return bool(processes)


def restart(database: PostgresServer, served: Served) -> None:
    """Stop the database until the service has noticed, and start it again."""
    database.stop()
    try:
        for path in ("/v1/searches", "/readyz"):
            answer = served.client.get(path)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert answer.json()["detail"].startswith("the database does not answer")
        assert served.client.post("/v1/searches", json=WANTED).status_code == 503
        assert served.client.get("/healthz").status_code == 200
    finally:
        database.start()
    wait_for(lambda: served.client.get("/readyz").status_code == 200)  # looked at once a second


def test_a_job_that_crashes_again_and_again_fails_and_a_stop_loses_nothing(tmp_path):
    with watching(tmp_path) as watched:
        served = watched.served
        search_id = watched.begin_waiting(1)
        for tries in (1, 2, 3):
            wait_for(lambda: watched.began(search_id, "profiles") == tries)  # noqa: B023
            wait_for(lambda: kill_one(job_processes(served.process.pid)))
        failed = served.await_status(search_id, "failed")
        assert failed["error"] == (
            "profiles: the job's process was ended by SIGKILL (out of memory?); tried 3 times: "
            "see the service's log"
        )
        assert served.client.post(f"/v1/searches/{search_id}:retry").json()["attempt"] == 2
        served.await_stage(search_id, "profiles")

        done = finished_search(watched.service)["id"]
        archive = served.data / "results" / done / "0" / "archive.zip"
        os.truncate(archive, 16_000_000)
        with (
            served.client.stream("GET", f"/v1/searches/{search_id}/events") as stream,
            served.client.stream("GET", f"/v1/searches/{done}/models/0/archive") as download,
        ):
            parts = download.iter_raw(100_000)
            received = len(next(parts))
            happened = stream.iter_lines()
            while next(happened) != "event: stage":
                pass
            started = [served.process.pid, *descendants(served.process.pid)]
            os.killpg(served.process.pid, signal.SIGINT)  # as Ctrl-C does
            assert "event: end" not in list(happened)
            assert received + sum(map(len, parts)) == 16_000_000
        assert served.process.wait(120) == 0
        wait_for(lambda: not any(map(runs, started)))
        assert not list((served.data / "scratch").iterdir())
        assert "Traceback" not in served.log.read_text()

        begun = watched.began(search_id, "profiles")
        served.start()
        wait_for(lambda: watched.began(search_id, "profiles") == begun + 1)
        watched.remove_device()
        served.await_status(search_id, "failed")
        expected = ["queued", "running", "failed", "queued", "running", "failed"]
        assert watched.statuses(search_id) == expected
