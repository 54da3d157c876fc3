"""A job's own process: heavy stages run in it, so that the service stays quick and can stop them.

The process is forked from a server that has imported torch already. It ends when its parent does.
The names of stages go to it through a pipe, and events and results come back, all as JSON.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nas.service.jobs.job import Job
from nas.service.running.forks import end_with_parent, forkserver
from supernet.errors import NasError

Json = dict[str, Any]

_LOOK_S = 0.5

_log = logging.getLogger(__name__)


class CrashedError(Exception):
    """A job's process ended during a stage, or an error of ours occurred in it."""


class UnwantedError(Exception):
    """A stage is to stop, because its search was cancelled or removed."""


class JobProcess:
    """The process of a search; it begins with the first stage.

    Args:
        job: what the process is told.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._process: Any = None
        self._pipe: Connection | None = None

    def run(
        self,
        stage: str,
        tell: Callable[[str, Mapping[str, Any]], None],
        is_wanted: Callable[[], bool],
    ) -> Json:
        """Run a stage to its end.

        Args:
            stage: its name (:meth:`nas.service.jobs.stages.Stages.run`).
            tell: takes the events of the stage.
            is_wanted: whether the stage is to go on; asked twice a second.

        Returns:
            What the stage returns: plain values.

        Raises:
            NasError: what a user can mend.
            CrashedError: the process ended, or the fault is ours; a new process may succeed.
            UnwantedError: the stage is not wanted; it still runs, and is to be stopped.
        """
        if self._pipe is None:
            self._pipe = self._start()
        look_at = 0.0
        try:
            self._pipe.send_bytes(json.dumps({"stage": stage}).encode())
            while True:
                if self._pipe.poll(_LOOK_S):
                    message = json.loads(self._pipe.recv_bytes())
                    if "kind" in message:
                        tell(message["kind"], message["data"])
                    else:
                        return self._outcome(message)
                if time.monotonic() >= look_at:
                    if not is_wanted():
                        raise UnwantedError(self.job.search_id)
                    look_at = time.monotonic() + _LOOK_S
        except (EOFError, OSError) as error:
            self._process.join(10)
            raise CrashedError(_how_it_ended(self._process.exitcode)) from error

    def stop(self) -> None:
        """End the process at once. What its stages have finished stays in the workspace."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        shutil.rmtree(self.job.scratch, ignore_errors=True)

    def kill(self) -> None:
        """End the process from another thread than the one that runs its stages."""
        if self._process is not None:
            self._process.kill()

    def _start(self) -> Connection:
        context = forkserver()
        pipe, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, asdict(self.job)), name=f"search {self.job.search_id}"
        )
        try:
            process.start()
        except (EOFError, OSError) as error:
            pipe.close()
            raise CrashedError(f"no process could be started: {error}") from error
        finally:
            theirs.close()
        self._process = process
        return pipe

    def _outcome(self, message: Json) -> Json:
        if "error" in message:
            raise NasError(message["error"])
        if "crash" in message:
            _log.error("search %s: %s", self.job.search_id, message["trace"])
            raise CrashedError(message["crash"])
        result: Json = message["result"]
        return result


def _work(pipe: Connection, given: Json) -> None:
    """The process: runs stages one after the other, until the pipe is closed."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the service, which ends this process
    end_with_parent()
    job = Job(**given)
    scratch = Path(job.scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tempfile.tempdir = str(scratch)
    from nas.service.jobs.stages import Stages

    lock = threading.Lock()

    def send(message: Json) -> None:
        with lock:
            pipe.send_bytes(json.dumps(message).encode())

    stages = Stages(job, lambda kind, data: send({"kind": kind, "data": dict(data)}))
    while True:
        try:
            stage = json.loads(pipe.recv_bytes())["stage"]
        except EOFError:
            return
        try:
            send({"result": stages.run(stage)})
        except NasError as error:
            send({"error": str(error)})
        except Exception as error:  # noqa: BLE001 - the parent must learn of any error
            send({"crash": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()})


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        reason = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"the job's process was ended by {signal.Signals(-code).name}{reason}"
    return f"the job's process ended with code {code}"
