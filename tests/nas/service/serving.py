"""A real service in a process of its own: `nas serve`, started, killed and started again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import yaml

from supernet.configs import read_config
from tests.nas.learnt import write_data, write_teacher
from tests.ports import free_port

QUESTIONS = ("who wrote", "how many", "where is", "what is", "when did", "which one of")
THINGS = ("the book", "a river", "two cities", "an old song", "the longest bridge", "their king")


class Served:
    """A service below a folder.

    Args:
        folder: receives its settings, log and data.
        works: whether it works at searches itself.
        settings: as in configs/service, besides host, port and data.
    """

    def __init__(self, folder: Path, *, works: bool = True, **settings: Any) -> None:
        self.port = free_port()
        self.data = folder / "data"
        self.log = folder / "log"
        self.config = folder / "service.yaml"
        self.config.write_text(
            yaml.safe_dump({"port": self.port, "data": str(self.data), **settings})
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx2.Client(base_url=self.url, timeout=30)
        self.process: subprocess.Popen[bytes] | None = None
        self._options = () if works else ("--no-worker",)

    def start(self) -> None:
        self.process = self.begin("serve", *self._options)
        for _ in range(1200):
            assert self.process.poll() is None, self.log.read_text()
            try:
                self.client.get("/v1/whoami")
                return
            except httpx2.TransportError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def begin(self, command: str, *options: str) -> subprocess.Popen[bytes]:
        """A process of the service, in a group of its own as a terminal would have it."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", "from nas.cli import main; main()", command,
                 "--config", str(self.config), *options],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it in order, and say with which code it ended."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=60)

    def search(self, search_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/searches/{search_id}").json()
        return found

    def submit(self, **wanted: Any) -> str:
        answer = self.client.post("/v1/searches", json=wanted)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def await_status(self, search_id: str, *statuses: str) -> dict[str, Any]:
        for _ in range(3000):
            found = self.search(search_id)
            if found["status"] in statuses:
                return found
            assert found["status"] not in ("done", "failed", "cancelled"), found
            time.sleep(0.1)
        raise AssertionError(found)

    def await_stage(self, search_id: str, *stages: str) -> None:
        """Wait until a search is in one of these stages."""
        for _ in range(3000):
            found = self.search(search_id)
            assert found["status"] in ("queued", "running"), found
            if found["stage"] in stages:
                return
            time.sleep(0.05)
        raise AssertionError(found)


@contextmanager
def serving(folder: Path, *, works: bool = True, **settings: Any) -> Iterator[Served]:
    served = Served(folder, works=works, **settings)
    served.start()
    try:
        yield served
    finally:
        if served.process is not None and served.process.poll() is None:
            served.stop()


def children(pid: int) -> list[int]:
    """The processes that a process has started and not yet seen end; none of one that ended."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
                found += map(int, (task / "children").read_text().split())
    return found


def job_processes(pid: int) -> list[int]:
    """The processes in which a worker's searches run: those that its server of forks has forked."""
    return [job for child in children(pid) for job in children(child)]


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [one for child in found for one in descendants(child)]


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only what its parent has yet to note of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


SMALL_TASK = {
    "space": "tiny",
    "teacher": "small",
    "data": "words",
    "recipe": read_config("recipes", "smoke") | {"profile_s": 3, "limit": 160},
}
"""A search of some seconds, for a service with the settings of :func:`small_task`."""


def small_task(folder: Path) -> dict[str, Any]:
    """The settings of a service with a teacher and a data set that are small."""
    write_teacher(folder / "teacher")
    write_data(folder / "words")
    return {
        "teachers": {"small": str(folder / "teacher")},
        "datasets": {"words": str(folder / "words")},
    }


def write_questions(folder: Path, examples: int = 120) -> Path:
    """A task that a few seconds suffice for: which question it is."""
    folder.mkdir(parents=True)
    rows = [
        {"text": f"{question} {THINGS[number % len(THINGS)]} {number}", "label": question}
        for number in range(examples // len(QUESTIONS))
        for question in QUESTIONS
    ]
    for name, some in (("train", rows[24:]), ("validation", rows[:12]), ("test", rows[12:24])):
        lines = "\n".join(map(json.dumps, some))
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder
