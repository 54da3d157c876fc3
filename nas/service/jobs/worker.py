"""Searches as durable jobs, and the worker that runs them.

A job is a DBOS workflow with a step for each stage. Steps that have ended are recorded in the
database. So a job whose worker is killed goes on at the stage it was in, on any worker; within the
stage, the workspace finds what was finished.
"""

from __future__ import annotations

import logging
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from dbos import error as dbos_errors
from filelock import FileLock, Timeout
from sqlalchemy import Engine

from nas.service.database.engine import patiently
from nas.service.database.revisions import migrate
from nas.service.devices.tasks import forget_tasks
from nas.service.jobs.durable_queue import APPLICATION, QUEUE, VERSION, WORKFLOW, DurableQueue
from nas.service.jobs.heartbeat import Heartbeat
from nas.service.jobs.job import Job
from nas.service.jobs.process import CrashedError, JobProcess, UnwantedError
from nas.service.running.forks import start_forkserver
from nas.service.searches import events, lifecycle
from nas.service.searches.requests import SearchRequest, stage_names
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from supernet.errors import NasError

Json = dict[str, Any]

_ATTEMPTS = 3
_LOST_JOB = "the search's job was given up: see the service's log, then retry the search"
_WORKER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

_log = logging.getLogger(__name__)


class _StoppingError(BaseException):
    """A stage ends because the worker stops. It is no Exception, so DBOS records no outcome."""


def migrate_all(settings: ServiceSettings, engine: Engine) -> None:
    """Bring all tables up to date, DBOS's own too."""
    migrate(engine)
    DBOS.migrate(settings.database_url)


class Worker:
    """Works at jobs in this process. A process has one worker at most.

    Args:
        name: of this worker alone; by default the machine's name.
        instead: what a person should do if another worker of this name runs.

    Raises:
        NasError: another worker of this name runs, or it is no name.
    """

    def __init__(
        self,
        service: Service,
        name: str | None = None,
        *,
        instead: str = "give this one another --name",
    ) -> None:
        self.service = service
        self.name = name or socket.gethostname()
        if not _WORKER_NAME.fullmatch(self.name):
            raise NasError(
                f"name: {self.name!r} is not accepted; give letters, digits, '.', '_' and '-', "
                "at most 63"
            )
        self._lock = FileLock(service.folder("workers") / f"{self.name}.lock")
        try:
            self._lock.acquire(timeout=0.5)
        except Timeout as error:
            raise NasError(f"a worker named {self.name} runs already: {instead}") from error
        self._queue = DurableQueue(service.engine)
        self._heartbeat = Heartbeat(
            service.engine, self.name, service.settings.jobs.worker_silence_s
        )
        self._processes: set[JobProcess] = set()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin, first with the jobs that an earlier process of this name has left."""
        global _worker
        _worker = self
        for left in self.service.folder("scratch").glob(f"*.{self.name}"):
            shutil.rmtree(left, ignore_errors=True)
        start_forkserver()  # so that the first job need not wait for torch
        settings = self.service.settings
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": settings.database_url,
            "application_version": VERSION,
            "executor_id": self.name,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
        }
        self._heartbeat.beat()
        DBOS(config=config)
        DBOS.launch()
        jobs = settings.jobs
        DBOS.register_queue(
            QUEUE,
            global_concurrency=max(jobs.at_once, jobs.per_worker),
            worker_concurrency=jobs.per_worker,
            partition_concurrency=min(jobs.per_user, jobs.at_once),
            polling_interval_sec=0.5,
            on_conflict="always_update",
        )
        threading.Thread(target=self._watch, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Stop at once; another worker, or the next of this name, goes on with what runs."""
        self._stopping.set()
        for process in list(self._processes):
            process.kill()
        with suppress(dbos_errors.DBOSException):
            DBOS.destroy(workflow_completion_timeout_sec=5)
        with suppress(sa.exc.SQLAlchemyError):  # the others will notice its silence
            self._queue.requeue(self.name)
            self._heartbeat.end(self.name)
        self._lock.release()

    @contextmanager
    def process(self, search_id: str, attempt: int, request: Json) -> Iterator[JobProcess]:
        """The process of a job; it ends with the context."""
        settings = self.service.settings.model_dump_json()
        scratch = self.service.folder("scratch") / f"{search_id}-{attempt}.{self.name}"
        process = JobProcess(Job(search_id, attempt, request, settings, str(scratch)))
        self._processes.add(process)
        try:
            yield process
        finally:
            self._processes.discard(process)
            process.stop()

    def run_stage(self, process: JobProcess, stage: str) -> Json:
        """Run a stage in a job's process.

        Returns:
            ``{"result": ...}``, ``{"error": ...}`` that a user can mend, or ``{"stopped": true}``.

        Raises:
            CrashedError: the process ended; try the stage again.
        """
        engine = self.service.engine
        search_id, attempt = process.job.search_id, process.job.attempt
        if not patiently(lambda: lifecycle.is_wanted(engine, search_id, attempt)):
            return {"stopped": True}
        patiently(lambda: lifecycle.note_stage(engine, search_id, attempt, stage))
        began = time.monotonic()
        self._tell(search_id, "stage", {"stage": stage, "state": "began"})
        if self._stopping.is_set():
            raise _StoppingError
        try:
            result = process.run(
                stage,
                lambda kind, data: self._tell(search_id, kind, data),
                lambda: self._goes_on(search_id, attempt),
            )
        except NasError as error:
            return {"error": str(error)}
        except UnwantedError:
            return {"stopped": True}
        except CrashedError as error:
            process.stop()
            if self._stopping.is_set():
                raise _StoppingError from error
            self._tell(search_id, "line", {"text": f"{stage}: {error}", "level": "warning"})
            raise
        seconds = round(time.monotonic() - began, 3)
        self._tell(search_id, "stage", {"stage": stage, "state": "ended", "seconds": seconds})
        return {"result": result}

    def forget_tasks(self, search_id: str, attempt: int) -> None:
        """Forget the tasks of an attempt that has ended, unless a later attempt has begun."""
        service = self.service
        found = patiently(lambda: lifecycle.find(service.engine, search_id))
        if found is None or found.attempt == attempt:
            patiently(lambda: forget_tasks(service.engine, service.settings.data, search_id))

    def _goes_on(self, search_id: str, attempt: int) -> bool:
        """Whether a running stage is still wanted; while the database is away, it is."""
        try:
            return lifecycle.is_wanted(self.service.engine, search_id, attempt)
        except sa.exc.SQLAlchemyError:
            return True

    def _tell(self, search_id: str, kind: Any, data: Any) -> None:
        try:
            events.record(self.service.engine, search_id, kind, data)
        except sa.exc.SQLAlchemyError as error:  # the stage matters more than what is shown of it
            _log.warning("an event of search %s is lost: %s", search_id, type(error).__name__)

    def _watch(self) -> None:
        """Give signs of life, and take over the jobs of workers that are silent."""
        while not self._stopping.wait(self._heartbeat.every_s):
            try:
                self._heartbeat.beat()
                for name in self._heartbeat.silent():
                    self._take_over(name)
                self._end_lost()
            except Exception as error:  # noqa: BLE001 - without a heartbeat it would lose its jobs
                self._heartbeat.forget_heard()
                _log.warning("no heartbeat: %s", " ".join(str(error).split())[:200])

    def _take_over(self, name: str) -> None:
        """Queue a silent worker's jobs again."""
        if self._heartbeat.take_charge(name):
            left = self._queue.requeue(name)
            self._heartbeat.end(name)
            _log.warning("worker %s is silent: %d of its searches are queued again", name, left)

    def _end_lost(self) -> None:
        """Fail the searches whose jobs DBOS has given up."""
        engine = self.service.engine
        for search_id, attempt in self._queue.lost(lifecycle.under_way(engine)):
            if lifecycle.finish(engine, search_id, attempt, error=_LOST_JOB):
                self.forget_tasks(search_id, attempt)


_worker: Worker | None = None
"""The worker of this process, as DBOS too is one for each process."""


def _current() -> Worker:
    assert _worker is not None
    return _worker


@DBOS.workflow(name=WORKFLOW)
def _search(search_id: str, attempt: int) -> str:
    """A search from its first stage to its end, with a recorded step for each stage."""
    request = _begin(search_id, attempt)
    if request is None:
        return "stopped"
    with _current().process(search_id, attempt, request) as process:
        outcome = _run(process, stage_names(SearchRequest.model_validate(request)))
    return _end(search_id, attempt, outcome.get("models"), outcome.get("error"))


def _run(process: JobProcess, stages: Sequence[str]) -> Json:
    models = []
    for stage in stages:
        outcome = _stage(process, stage)
        if "result" not in outcome:
            return outcome
        if outcome["result"]:
            models.append(outcome["result"])
    return {"models": models}


@DBOS.step(name="begin")
def _begin(search_id: str, attempt: int) -> Json | None:
    engine = _current().service.engine
    if not patiently(lambda: lifecycle.begin(engine, search_id, attempt)):
        return None
    found = patiently(lambda: lifecycle.find(engine, search_id))
    return None if found is None else dict(found.request)


@DBOS.step(name="stage")
def _stage(process: JobProcess, stage: str) -> Json:
    for tries in range(1, _ATTEMPTS + 1):
        try:
            return _current().run_stage(process, stage)
        except CrashedError as error:
            if tries == _ATTEMPTS:
                return {"error": f"{stage}: {error}; tried {tries} times: see the service's log"}
    raise AssertionError


@DBOS.step(name="end")
def _end(search_id: str, attempt: int, models: list[Json] | None, error: str | None) -> str:
    worker = _current()
    worker.forget_tasks(search_id, attempt)
    if models is None and error is None:
        return "stopped"
    engine = worker.service.engine
    patiently(lambda: lifecycle.finish(engine, search_id, attempt, models=models, error=error))
    return "ended"
