"""What a Prometheus server reads: requests as they were counted, the rest from the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Column, ColumnElement, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from nas.service.tables import searches, targets, tasks, workers

_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES_KEPT_S = 300.0
"""For so long the sizes of folders are believed before the folders are walked again."""


class Metrics:
    """The metrics of one application.

    Args:
        engine: of the service's database.
        data: the service's folder.
        private: whether the names of devices are not for all who may read.
    """

    def __init__(self, engine: Engine, data: Path, *, private: bool) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "tailorbert_requests",
            "Requests, by method, template of the route, and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "tailorbert_request_seconds",
            "From a request's head to the head of its response",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.rate_limited = Counter(
            "tailorbert_rate_limited",
            "Requests refused because their client asked too often",
            registry=self.registry,
        )
        self.registry.register(_Database(engine, private))
        self.registry.register(_Folders(data))


class _Database(Collector):
    """Searches, tasks, targets and workers, as they are when asked."""

    def __init__(self, engine: Engine, private: bool) -> None:
        self._engine, self._private = engine, private

    def describe(self) -> Iterator[Metric]:
        return iter(())  # registering must not ask the database

    def collect(self) -> Iterator[Metric]:
        try:
            with self._engine.connect() as connection:
                metrics = [*_searches(connection), *_devices(connection)]
                metrics += [] if self._private else [_silence_of_targets(connection)]
        except SQLAlchemyError:
            metrics = []
        yield GaugeMetricFamily(
            "tailorbert_database_up", "Whether the database answers", value=bool(metrics)
        )
        yield from metrics


def _searches(connection: Connection) -> Iterator[Metric]:
    rows = connection.execute(
        sa.select(searches.c.status, sa.func.count(), sa.func.min(searches.c.updated)).group_by(
            searches.c.status
        )
    ).all()
    yield _by("tailorbert_searches", "Searches, by status", "status", {s: n for s, n, _ in rows})
    waiting, since = next(((n, first) for s, n, first in rows if s == "queued"), (0, time.time()))
    yield GaugeMetricFamily("tailorbert_queue_depth", "Searches that wait", value=waiting)
    yield GaugeMetricFamily(
        "tailorbert_queue_oldest_seconds",
        "For how long the search has waited that waits longest",
        value=max(0.0, time.time() - since),
    )
    running = (searches.c.status == "running", searches.c.stage.is_not(None))
    stages = _counts(connection, searches.c.stage, *running)
    yield _by("tailorbert_stages_running", "Stages that run", "stage", stages)


def _devices(connection: Connection) -> Iterator[Metric]:
    counts = _counts(connection, tasks.c.status)
    yield _by("tailorbert_tasks", "Tasks of devices, by status", "status", counts)
    now = time.time()
    alive = connection.execute(sa.select(workers.c.name, workers.c.seen)).all()
    yield _by(
        "tailorbert_worker_silent_seconds",
        "Since a worker was last heard of",
        "worker",
        {name: max(0.0, now - when) for name, when in alive},
    )


def _silence_of_targets(connection: Connection) -> Metric:
    now = time.time()
    seen = connection.execute(
        sa.select(targets.c.name, targets.c.last_seen).where(targets.c.last_seen.is_not(None))
    ).all()
    return _by(
        "tailorbert_target_silent_seconds",
        "Since a device's agent was last heard of",
        "target",
        {name: max(0.0, now - when) for name, when in seen},
    )


def _counts(
    connection: Connection, column: Column[str], *where: ColumnElement[bool]
) -> dict[str, int]:
    query = sa.select(column, sa.func.count()).where(*where).group_by(column)
    return {row[0]: row[1] for row in connection.execute(query)}


class _Folders(Collector):
    """Bytes in each folder of the service's data, walked every five minutes at most."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._until = 0.0

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._sizes = {path.name: folder_bytes(path) for path in _folders_in(self._data)}
                self._until = time.monotonic() + _SIZES_KEPT_S
            sizes = dict(self._sizes)
        yield _by("tailorbert_data_bytes", "Bytes in folders of the data", "folder", sizes)


def folder_bytes(folder: Path) -> int:
    """The size of all files under a folder; those that go meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if not path.is_dir() else 0
        except FileNotFoundError:
            continue
    return total


def _folders_in(data: Path) -> list[Path]:
    return [path for path in data.iterdir() if path.is_dir()] if data.is_dir() else []


def _by(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
