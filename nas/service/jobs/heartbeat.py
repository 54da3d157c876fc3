"""Signs of life of workers: each worker gives its own, and listens for those of the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib.metadata import version

import sqlalchemy as sa
from sqlalchemy import Engine

from nas.service.database.engine import execute
from nas.service.database.tables import workers


class Heartbeat:
    """A worker's signs of life, and what it hears of other workers.

    Silence is counted by this process's clock, from when the other's last sign was first seen. So
    no worker counts as silent because clocks differ or because the database was away.

    Args:
        engine: of the database in which signs are left.
        name: of the worker.
        silence_s: after so long without a new sign, a worker counts as silent.
        clock: in seconds.

    Attributes:
        every_s: how often a sign is to be given.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        silence_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._name, self._silence_s, self._clock = engine, name, silence_s, clock
        self._heard: dict[str, tuple[float, float]] = {}
        self.every_s = min(5.0, silence_s / 5)

    def beat(self) -> None:
        """Give a sign."""
        values = {
            "seen": time.time(),
            "about": {"version": version("tailorbert"), "process": os.getpid()},
        }
        mine = workers.c.name == self._name
        if not execute(self._engine, workers.update().where(mine).values(**values)):
            execute(self._engine, workers.insert().values(name=self._name, **values))

    def silent(self) -> list[str]:
        """The other workers that have been silent for long; ask again and again."""
        with self._engine.connect() as connection:
            others = connection.execute(
                sa.select(workers.c.name, workers.c.seen).where(workers.c.name != self._name)
            ).all()
        now, before = self._clock(), self._heard
        self._heard = {
            name: before[name] if name in before and before[name][0] == seen else (seen, now)
            for name, seen in others
        }
        return [name for name, (_, since) in self._heard.items() if now - since > self._silence_s]

    def forget_heard(self) -> None:
        """Count silence anew, after a time in which the database could not be read."""
        self._heard = {}

    def take_charge(self, name: str) -> bool:
        """Whether this worker, of all that listen, is to take over a silent one's jobs.

        If this one falls silent too before it calls :meth:`end`, it is another's turn.
        """
        seen, _ = self._heard.pop(name)
        same = (workers.c.name == name, workers.c.seen == seen)
        return execute(self._engine, workers.update().where(*same).values(seen=time.time())) > 0

    def end(self, name: str) -> None:
        """Listen no longer for a worker that has no jobs."""
        execute(self._engine, workers.delete().where(workers.c.name == name))
