"""What a Prometheus server reads: counted requests, and figures from the database and the disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Column, ColumnElement, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from nas.service.database.tables import searches, targets, tasks, workers

_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES_KEPT_S = 300.0
"""How long the sizes of folders are remembered before the folders are walked again."""


class Metrics:
    """The metrics of one application.

    Args:
        engine: of the service's database.
        data: the service's folder.
        private: whether to leave out devices, because not all readers may know their names.
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
                metrics = list(_read(connection, private=self._private))
        except SQLAlchemyError:
            metrics = []
        yield GaugeMetricFamily(
            "tailorbert_database_up", "Whether the database answers", value=bool(metrics)
        )
        yield from metrics


def _read(connection: Connection, *, private: bool) -> Iterator[Metric]:
    by_status = _counts(connection, searches.c.status)
    yield _by("tailorbert_searches", "Searches, by status", "status", by_status)
    yield GaugeMetricFamily(
        "tailorbert_queue_depth", "Searches that wait", value=by_status.get("queued", 0)
    )
    oldest = sa.select(sa.func.min(searches.c.updated)).where(searches.c.status == "queued")
    since = connection.execute(oldest).scalar_one()
    yield GaugeMetricFamily(
        "tailorbert_queue_oldest_seconds",
        "For how long the search has waited that waits longest",
        value=0.0 if since is None else max(0.0, time.time() - since),
    )
    running = (searches.c.status == "running", searches.c.stage.is_not(None))
    stages = _counts(connection, searches.c.stage, *running)
    yield _by("tailorbert_stages_running", "Stages that run", "stage", stages)
    of_tasks = _counts(connection, tasks.c.status)
    yield _by("tailorbert_tasks", "Tasks of devices, by status", "status", of_tasks)
    help_text = "Since a worker was last heard of"
    yield _silence(connection, "worker", help_text, workers.c.name, workers.c.seen)
    if not private:
        help_text = "Since a device's agent was last heard of"
        yield _silence(connection, "target", help_text, targets.c.name, targets.c.last_seen)


def _silence(
    connection: Connection, label: str, help_text: str, name: Column[str], seen: Column[float]
) -> Metric:
    heard = connection.execute(sa.select(name, seen).where(seen.is_not(None))).all()
    silent = {one: max(0.0, time.time() - when) for one, when in heard}
    return _by(f"tailorbert_{label}_silent_seconds", help_text, label, silent)


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
                folders = (path for path in self._data.glob("*") if path.is_dir())
                self._sizes = {path.name: folder_bytes(path) for path in folders}
                self._until = time.monotonic() + _SIZES_KEPT_S
            sizes = dict(self._sizes)
        yield _by("tailorbert_data_bytes", "Bytes in folders of the data", "folder", sizes)


def folder_bytes(folder: Path) -> int:
    """The size of all files under a folder, without files that are removed meanwhile."""
    return sum(stat.st_size for stat in stats_of_files(folder))


def stats_of_files(folder: Path) -> Iterator[os.stat_result]:
    """The status of each file below a folder, without files that are removed meanwhile."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                yield (Path(parent) / name).lstat()


def _by(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
