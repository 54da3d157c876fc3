"""What a service removes, so that its disk and its database do not fill up.

:func:`older`, :func:`over_quota` and :func:`planned` are pure: they choose what goes by size and
last use. :func:`collect` reads, chooses and removes. It takes everything out of sight by one rename
or one transaction before it removes it, so a kill in the middle leaves nothing half there.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from nas.service.access.visibility import forget_shares
from nas.service.database.tables import audit, events, searches, tasks, uploads
from nas.service.jobs.durable_queue import forget_jobs
from nas.service.running.metrics import stats_of_files
from nas.service.searches.lifecycle import ENDED
from nas.service.service import UploadKind
from nas.service.settings import ServiceSettings
from nas.store.workspace import Workspace
from supernet.errors import NasError

_log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_GB = 1e9
_PARTIAL_S = 7 * _DAY_S
"""The age at which an unfinished stage is given up."""
_PATIENCE_S = 120.0
"""How long to wait for a workspace that jobs lock: between two stages it is free for moments."""

_LEFT_OVER_S = _DAY_S
"""The age at which a file of a write that was cut off, or a folder without a row, is removed."""
_OF_UPLOADS = tuple(f"{kind}s" for kind in get_args(UploadKind))
_TRASH = ".gone-"
_COLLECTING = ".collecting"


@dataclass(frozen=True)
class Kept:
    """Something that takes up space.

    Args:
        name: unique among those of its kind.
        used: when it was used last, in seconds since 1970.
        needed: whether a search that is queued or running may need it.
    """

    name: str
    bytes: int
    used: float
    needed: bool = False


@dataclass(frozen=True)
class Collected:
    """What was removed, or would be.

    Args:
        models: ids of searches whose models were removed.
        artifacts: of the workspace, as ``stage/key``.
        leftovers: files and folders of work that was cut off, and folders without a row.
        rows: numbers of rows, by table of the database.
        bytes: the size of all files.
        busy: what was left alone because it is in use.
    """

    models: tuple[str, ...]
    artifacts: tuple[str, ...]
    leftovers: tuple[str, ...]
    rows: dict[str, int]
    bytes: int
    busy: tuple[str, ...]


def older(kept: Iterable[Kept], before: float) -> list[Kept]:
    """Those that were last used before a time, without those that are needed."""
    return [one for one in kept if one.used < before and not one.needed]


def over_quota(kept: Collection[Kept], quota: float) -> list[Kept]:
    """Those that must go so that the rest fits the quota, the least recently used first.

    What is needed stays, even if it alone exceeds the quota.

    Args:
        quota: in bytes.

    Example:
        >>> old, new = Kept("old", 6, used=1.0), Kept("new", 6, used=2.0)
        >>> [one.name for one in over_quota([new, old], quota=10)]
        ['old']
    """
    excess = sum(one.bytes for one in kept) - quota
    going = []
    for one in sorted(kept, key=lambda one: (one.used, one.name)):
        if excess <= 0:
            break
        if not one.needed:
            going.append(one)
            excess -= one.bytes
    return going


def planned(kept: Collection[Kept], *, before: float, quota: float) -> list[Kept]:
    """Those that go by age, and then those that go by quota."""
    aged = older(kept, before)
    gone = {one.name for one in aged}
    return aged + over_quota([one for one in kept if one.name not in gone], quota)


def collect(settings: ServiceSettings, engine: Engine, *, dry_run: bool = False) -> Collected:
    """Remove what the settings no longer keep.

    Args:
        dry_run: only say what would be removed.

    Raises:
        NasError: a backup is being made, or another process is at it.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    with alone(settings):
        return _Collection(settings, engine, dry_run).run()


def look_after(settings: ServiceSettings, engine: Engine, ended: threading.Event) -> None:
    """Collect again and again, until ``ended``."""
    while not ended.wait(settings.retention.every_s):
        try:
            found = collect(settings, engine)
        except (NasError, OSError, SQLAlchemyError) as error:
            _log.warning("nothing was collected: %s", error)
        else:
            _log.info("collected: %s", found)


@contextmanager
def alone(settings: ServiceSettings) -> Iterator[None]:
    """Keep other processes from collecting or backing up meanwhile.

    Raises:
        NasError: another process does one of them.
    """
    try:
        lock = FileLock(settings.data / _COLLECTING).acquire(timeout=0)
    except Timeout as error:
        raise NasError(
            f"data {settings.data} is being backed up or cleared: try again when that has ended"
        ) from error
    with lock:
        yield


class _Collection:
    """One run over the files and tables of a service."""

    def __init__(self, settings: ServiceSettings, engine: Engine, dry_run: bool) -> None:
        self._settings, self._engine, self._dry_run = settings, engine, dry_run
        self._now = time.time()
        self._bytes = 0
        self._busy: list[str] = []
        with engine.connect() as connection:
            columns = (searches.c.id, searches.c.status, searches.c.created, searches.c.updated)
            self._searches = {row.id: row for row in connection.execute(sa.select(*columns))}
            open_tasks = sa.select(tasks.c.id).where(tasks.c.status.in_(("waiting", "claimed")))
            self._tasks = set(connection.execute(open_tasks).scalars())
            about = (uploads.c.kind, uploads.c.name, uploads.c.created)
            self._uploads = connection.execute(sa.select(*about)).all()
        self._under_way = {key for key, row in self._searches.items() if row.status not in ENDED}
        # A search has used what it needs since it was made: reuse sets an artifact's time.
        began = [self._searches[key].created for key in self._under_way]
        self._needed_since = min(began, default=float("inf"))

    def run(self) -> Collected:
        models = tuple(self._models())
        artifacts, partials = self._workspace()
        leftovers = (*partials, *self._left_over())
        rows = self._rows()
        return Collected(models, tuple(artifacts), leftovers, rows, self._bytes, tuple(self._busy))

    def _models(self) -> Iterator[str]:
        """Searches whose archives go: they ended long ago, or the quota is exceeded."""
        folder = self._settings.data / "results"
        archives = {
            search_id: sorted(folder.glob(f"{search_id}/*/archive.zip"))
            for search_id in self._searches
        }
        kept = [
            Kept(
                search_id,
                sum(path.stat().st_size for path in found),
                max(row.updated, *(path.stat().st_mtime for path in found)),
                row.status not in ENDED,
            )
            for search_id, row in self._searches.items()
            if (found := archives[search_id])
        ]
        retention = self._settings.retention
        going = planned(
            kept,
            before=self._now - retention.result_days * _DAY_S,
            quota=retention.results_gb * _GB,
        )
        for one in going:
            self._bytes += one.bytes
            if not self._dry_run and not self._expire(one.name, archives[one.name]):
                continue
            yield one.name

    def _expire(self, search_id: str, archives: Sequence[Path]) -> bool:
        """Remove a search's models, unless it runs again: first in its row, then on the disk."""
        with self._engine.begin() as connection:
            noted = connection.execute(
                searches.update()
                .where(searches.c.id == search_id, searches.c.status.in_(ENDED))
                .values(expired=True)
            )
        if noted.rowcount:
            for path in archives:
                path.unlink(missing_ok=True)
        return noted.rowcount > 0

    def _workspace(self) -> tuple[list[str], list[str]]:
        """Artifacts over the quota, and stages that were begun and given up."""
        place = self._settings.workspace_place
        if "://" in place or not Path(place).is_dir():
            return [], []  # shared storage has rules of its own
        root = Path(place)
        try:
            with Workspace(root, patience_s=_PATIENCE_S).lock():
                return self._artifacts(root)
        except NasError:
            self._busy.append("workspace")
            return [], []

    def _artifacts(self, root: Path) -> tuple[list[str], list[str]]:
        for trash in () if self._dry_run else root.glob(f"[!.]*/{_TRASH}*"):
            shutil.rmtree(trash)
        folders = [path for path in root.glob("[!.]*/[!.]*") if path.is_dir()]
        kept = [self._folder(path, root) for path in folders]
        sealed = [one for one in kept if not one.name.endswith(".partial")]
        partial = [one for one in kept if one.name.endswith(".partial")]
        abandoned = older(partial, self._now - _PARTIAL_S)
        quota = self._settings.retention.workspace_gb * _GB
        quota -= sum(one.bytes for one in partial) - sum(one.bytes for one in abandoned)
        going = over_quota(sealed, quota)
        for one in (*going, *abandoned):
            self._remove(root / one.name, one.bytes)
        return [one.name for one in going], [one.name for one in abandoned]

    def _folder(self, path: Path, root: Path) -> Kept:
        """A stage's folder. Sealing it, reusing it and writing into it count as use."""
        stats = [path.stat(), *stats_of_files(path)]
        used = max(stat.st_mtime for stat in stats)
        size = sum(stat.st_size for stat in stats[1:])
        return Kept(str(path.relative_to(root)), size, used, used >= self._needed_since)

    def _left_over(self) -> Iterator[str]:
        """What is left of work that was cut off: temporary files, and folders without a row."""
        data = self._settings.data
        written = ("results/.*", "results/*/.*", "profiles/.*", "uploads/[!.]*")
        found = [
            path for pattern in (*written, ".backup-*", ".restore-*") for path in data.glob(pattern)
        ]
        kept = {f"{row.kind}s/{row.name}" for row in self._uploads}
        kept |= {f"results/{name}" for name in self._searches}
        kept |= {f"tasks/{name}" for name in self._tasks}
        for folder in ("results", "tasks", *_OF_UPLOADS):
            found += [p for p in data.glob(f"{folder}/[!.]*") if f"{folder}/{p.name}" not in kept]
        found += [
            p for p in data.glob("scratch/[!.]*") if p.name.partition("-")[0] not in self._under_way
        ]
        for path in found:
            with suppress(FileNotFoundError):  # another process may remove it first
                stats = [path.lstat(), *stats_of_files(path)]
                if max(stat.st_mtime for stat in stats) < self._now - _LEFT_OVER_S:
                    self._remove(path, sum(stat.st_size for stat in stats))
                    yield str(path.relative_to(data))

    def _remove(self, path: Path, size: int) -> None:
        self._bytes += size
        if self._dry_run:
            return
        if path.is_symlink() or path.is_file():
            path.unlink()
            return
        trash = path.with_name(f"{_TRASH}{path.name.lstrip('.')}")
        os.rename(path, trash)
        shutil.rmtree(trash)

    def _rows(self) -> dict[str, int]:
        """Old events, audit records, tasks and jobs, and uploads whose folder is not there."""
        retention = self._settings.retention
        events_end = self._now - retention.event_days * _DAY_S
        audit_end = self._now - retention.audit_days * _DAY_S
        ended = sa.select(searches.c.id).where(
            searches.c.status.in_(ENDED), searches.c.updated < events_end
        )
        # The last status stays, and all events after it: whoever watches waits for them.
        other = events.alias()
        ending = (
            sa.select(sa.func.max(other.c.number))
            .where(other.c.search_id == events.c.search_id, other.c.kind == "status")
            .scalar_subquery()
        )
        old = {
            events: sa.and_(events.c.search_id.in_(ended), events.c.number < ending),
            audit: audit.c.created < audit_end,
            tasks: sa.and_(tasks.c.status.in_(("done", "failed")), tasks.c.updated < events_end),
        }
        gone = {table.name: self._delete(table, where) for table, where in old.items()}
        gone["jobs"] = forget_jobs(self._engine, events_end, dry_run=self._dry_run)
        gone["uploads"] = sum(self._forget_lost(row) for row in self._uploads)
        return {name: count for name, count in gone.items() if count}

    def _forget_lost(self, row: Any) -> bool:
        """Whether an upload has lost its folder, as a cut-off deletion leaves it; its row goes."""
        place = self._settings.data / f"{row.kind}s"
        if not place.is_dir() or (place / row.name).exists():  # no folder at all: nothing mounted
            return False
        same = sa.and_(*(uploads.c[name] == value for name, value in row._mapping.items()))
        with self._engine.begin() as connection:
            if not self._dry_run and connection.execute(uploads.delete().where(same)).rowcount:
                forget_shares(connection, row.kind, row.name)
        return True

    def _delete(self, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
        with self._engine.begin() as connection:
            if self._dry_run:
                counted = sa.select(sa.func.count()).select_from(table).where(where)
                return int(connection.execute(counted).scalar_one())
            return connection.execute(table.delete().where(where)).rowcount
