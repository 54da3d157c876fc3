"""The agent of a device: measures on it what the searches of a service ask for.

A folder holds the current task, so an agent that was killed continues it. A result is kept until
the service has taken it. Measuring goes on while the service does not answer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from latency.agent_link import DeniedError, Link, LostError
from latency.asked import ModelFile, ProfileAsked, TimeAsked, latencies_to_dicts
from latency.atomic import write_text
from latency.beside import time_beside
from latency.connection import RefusedError
from latency.device import THIS_MACHINE
from latency.fingerprint import Fingerprint
from latency.profile import Profile
from latency.profiler import Status
from latency.target import Target
from supernet.architecture import Architecture
from supernet.errors import NasError

WAIT_S = 20.0
"""Seconds that one request waits for a task."""

Say = Callable[[str], None]


class Agent:
    """Measures for one target of a service.

    Args:
        link: to the service.
        name: name of the target.
        target: what is measured on this device.
        state: a folder of the agent's own.
        say: prints one line for a person.
    """

    def __init__(self, link: Link, name: str, target: Target, state: Path, say: Say) -> None:
        self._link, self._name, self._target, self._say = link, name, target, say
        self._place = f"/v1/targets/{quote(name, safe='')}"
        self._task_file, self._result_file = state / "task.json", state / "result.json"
        self._profile_file, self._models = state / "profile.json", state / "models"
        self._state = state

    def run(self) -> None:
        """Measure whatever is asked for, until the process is ended.

        Raises:
            NasError: the service refuses the target or the token, or another agent uses the folder.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._state / ".lock", timeout=0):
                self._announce()
                while True:
                    self._step()
        except Timeout as error:
            raise NasError(f"state {self._state} is in use by another agent") from error

    def _announce(self) -> None:
        """Register this device with the service; wait until the service answers."""
        machine = Fingerprint.of_this_machine(self._target)
        for warning in machine.warnings(self._target):
            self._say(f"{self._name}: warning: {warning}")
        self._link.insist(
            "PUT",
            self._place,
            {
                "target": self._target.to_dict(),
                "fingerprint": machine.to_dict(),
                "agent": {"version": version("tailorbert")},
            },
        )
        self._say(f"{self._name}: {self._target}, waits for tasks of {self._link.server}")

    def _step(self) -> None:
        """Do one task: the one that was interrupted, or else the next."""
        task = _read(self._task_file)
        if task is None or not self._result_file.exists():
            task = self._claimed(task)
            if task is None:
                return
            self._say(f"{self._name}: began task {task['id']} ({task['kind']})")
            try:
                outcome = self._outcome(task)
            except LostError:
                self._say(f"{self._name}: task {task['id']} is no longer wanted")
                self._forget()
                return
            write_text(self._result_file, json.dumps(outcome))
        self._deliver(task)
        self._forget()

    def _claimed(self, before: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Claim the next task, and write it to the folder before starting it."""
        resume = None if before is None else {"id": before["id"], "attempt": before["attempt"]}
        task = self._link.insist(
            "POST", f"{self._place}/tasks:claim", {"wait_s": WAIT_S, "resume": resume}
        )
        if before is None or task is None or task["id"] != before["id"]:
            self._forget()  # the folder holds a task that was given up, or is another agent's
        if task is not None:
            write_text(self._task_file, json.dumps(task))
        return task

    def _outcome(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Run a task; return its result or its error.

        Raises:
            LostError: the task is no longer this agent's.
            DeniedError: the agent may not speak to the service.
        """
        try:
            if task["kind"] == "profile":
                return {"result": self._profiled(task).to_dict()}
            return {"result": self._timed(task)}
        except (LostError, DeniedError):
            raise
        except NasError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises ends one task alone
            return {"error": f"{type(error).__name__}: {error}"}

    def _profiled(self, task: Mapping[str, Any]) -> Profile:
        asked = ProfileAsked.from_dict(task["request"])
        if _is_of_another(self._profile_file, Fingerprint.of_this_machine(asked.target)):
            self._profile_file.unlink(missing_ok=True)

        def told(status: Status) -> None:
            error_percent = status.error_percent
            self._tell(task, status.share, measured=status.measured, error_percent=error_percent)

        profile = THIS_MACHINE.profile(asked, path=self._profile_file, progress=told)
        profile.check_steady()
        return profile

    def _timed(self, task: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked = TimeAsked.from_dict(task["request"])
        models = [self._model(task, number, one) for number, one in enumerate(asked.models)]

        def told(done: int, planned: int) -> None:
            self._tell(task, done / planned, measured=done)

        return latencies_to_dicts(
            time_beside(models, asked.target, asked.shape, rounds=asked.rounds, progress=told)
        )

    def _model(
        self, task: Mapping[str, Any], number: int, model: Architecture | ModelFile
    ) -> Architecture | Path:
        """The architecture, or the model's file once it is fetched."""
        if isinstance(model, Architecture):
            return model
        path = self._models / f"{number}.onnx"  # the service has no say in where files lie here
        self._link.fetch(f"/v1/tasks/{task['id']}/files/{number}.onnx", path, model.sha256)
        return path

    def _tell(self, task: Mapping[str, Any], share: float, **more: Any) -> None:
        """Report the progress of a task, if the service answers.

        This happens between two measurements: a separate thread would disturb them.

        Raises:
            LostError: the task is no longer this agent's.
        """
        progress = {"share": min(1.0, share), **more}
        self._link.attempt(
            f"/v1/tasks/{task['id']}:progress", {"attempt": task["attempt"], "progress": progress}
        )

    def _deliver(self, task: Mapping[str, Any]) -> None:
        """Send the outcome of a task, and retry until the service answers."""
        outcome = _read(self._result_file) or {"error": "the agent lost what it had measured"}
        task_id, attempt = task["id"], task["attempt"]
        with suppress(LostError):
            if "error" not in outcome:
                try:
                    self._link.insist(
                        "POST", f"/v1/tasks/{task_id}:complete", {"attempt": attempt} | outcome
                    )
                    self._say(f"{self._name}: ended task {task_id}")
                    return
                except RefusedError as error:
                    outcome = {"error": f"the service did not take the result: {error}"}
            text = outcome["error"][:2000]
            self._link.insist(
                "POST", f"/v1/tasks/{task_id}:fail", {"attempt": attempt, "error": text}
            )
            self._say(f"{self._name}: task {task_id} failed: {text}")
            return
        self._say(f"{self._name}: task {task_id} is no longer wanted")

    def _forget(self) -> None:
        """Clear the folder for the next task.

        The task's file is deleted last. So after an interruption, all files left belong to it.
        """
        for path in (self._result_file, self._profile_file):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._models, ignore_errors=True)
        self._task_file.unlink(missing_ok=True)


def _is_of_another(path: Path, fingerprint: Fingerprint) -> bool:
    """Whether an unfinished profile cannot be continued: other software, or a damaged file."""
    try:
        return path.exists() and Profile.load(path).fingerprint != fingerprint
    except NasError:
        return True


def _read(path: Path) -> dict[str, Any] | None:
    """Content of one of the agent's files; None if it is missing or damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
