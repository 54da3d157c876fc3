"""What every part of a running service is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sqlalchemy import Connection, Engine

from nas.data.sources import PYDOC
from nas.service.settings import ServiceSettings

UploadKind = Literal["dataset", "teacher", "supernet"]
"""What users upload. The service's data has a folder for each, named with an ``s``."""

EMBEDDED_TEACHER = "minilm"
"""As :data:`nas.models.teacher.EMBEDDED`, whose module loads torch."""


class JobQueue(Protocol):
    """Where jobs wait to be run; see :mod:`nas.service.jobs.durable_queue`."""

    def enqueue(
        self, connection: Connection, search_id: str, attempt: int, *, owner: str, priority: int
    ) -> None:
        """Have a search run, once the connection's transaction is committed."""

    def cancel(self, search_id: str, attempt: int) -> None:
        """Have it not begin, or stop at its next stage."""


class NobodysQueue:
    """The queue of a process that starts no searches, such as a job's own."""

    def enqueue(
        self, connection: Connection, search_id: str, attempt: int, *, owner: str, priority: int
    ) -> None:
        raise RuntimeError("this process starts no searches")

    def cancel(self, search_id: str, attempt: int) -> None:
        raise RuntimeError("this process cancels no searches")


@dataclass(frozen=True)
class Service:
    """A running service.

    Args:
        engine: of its database.
        jobs: where searches wait.
    """

    settings: ServiceSettings
    engine: Engine
    jobs: JobQueue

    def folder(self, kind: str) -> Path:
        """A folder of the service's data, such as ``results``, made when missing."""
        folder = self.settings.data / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def offered(self, kind: UploadKind) -> Mapping[str, str]:
        """What searches may name without an upload: names, and what a pipeline takes for each."""
        if kind == "dataset":
            return {PYDOC: PYDOC, **self.settings.datasets}
        if kind == "teacher":
            return {EMBEDDED_TEACHER: EMBEDDED_TEACHER, **self.settings.teachers}
        return {}
