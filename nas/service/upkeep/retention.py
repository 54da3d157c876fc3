"""What a service lets go of, so that its disk and its database do not fill up.

Plans are pure: from what there is and when it was used last to what goes. :func:`collect` reads,
plans and removes. Everything that it removes is first taken out of sight by one rename or one
transaction, so that being killed in the middle leaves nothing half there.
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

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from nas.service.jobs.durable_queue import forget_jobs
from nas.service.searches import ENDED
from nas.service.settings import ServiceSettings
from nas.service.tables import audit, events, searches, tasks
from nas.store.workspace import Workspace
from supernet.errors import NasError

_log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_GB = 1e9
_PARTIAL_S = 7 * _DAY_S
"""After so long without a sign of work, a stage that was begun is not taken up again."""
_PATIENCE_S = 120.0
"""With a workspace that jobs hold stage after stage: they let go of it for moments alone."""

_LEFT_OVER_S = _DAY_S
"""After so long, a file of a write that was cut off, or a folder that no row knows, is nobody's."""
_TRASH = ".gone-"
_COLLECTING = ".collecting"


@dataclass(frozen=True)
class Kept:
    """Something that takes up space.

    Args:
        name: unique among those of its kind.
        bytes: that it takes up.
        used: when last, in seconds since 1970.
        needed: whether work that is queued or under way may count on it.
    """

    name: str
    bytes: int
    used: float
    needed: bool = False


@dataclass(frozen=True)
class Collected:
    """What went, or would go.

    Args:
        models: searches whose models went.
        artifacts: of the workspace, as ``stage/key``.
        leftovers: files and folders of work that was cut off, or that no row knows.
        rows: of the database, by table.
        bytes: that all of it took up.
        busy: what was left alone because it is in use.
    """

    models: tuple[str, ...]
    artifacts: tuple[str, ...]
    leftovers: tuple[str, ...]
    rows: dict[str, int]
    bytes: int
    busy: tuple[str, ...]


def older(kept: Iterable[Kept], before: float) -> list[Kept]:
    """Those that were last used before a time and are not needed."""
    return [one for one in kept if one.used < before and not one.needed]


def over_quota(kept: Collection[Kept], quota: float) -> list[Kept]:
    """Those that have to go for the rest to fit: what was used longest ago first.

    What is needed stays, even where it alone is more than the quota.

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
    """Those that go by age, and those that go by quota once these have gone."""
    aged = older(kept, before)
    gone = {one.name for one in aged}
    return aged + over_quota([one for one in kept if one.name not in gone], quota)


def collect(settings: ServiceSettings, engine: Engine, *, dry_run: bool = False) -> Collected:
    """Let go of what the settings keep no longer.

    Args:
        dry_run: only say what would go.

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
    """Have files neither go nor be counted on by another process meanwhile.

    Raises:
        NasError: another process is at it.
    """
    lock = FileLock(settings.data / _COLLECTING)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise NasError(
            f"data {settings.data} is being backed up or cleared: try again when that has ended"
        ) from error
    try:
        yield
    finally:
        lock.release()


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
        self._under_way = {key for key, row in self._searches.items() if row.status not in ENDED}
        # What a search counts on it has used since it was made: a reused artifact is touched.
        began = [self._searches[key].created for key in self._under_way]
        self._needed_since = min(began, default=float("inf"))

    def run(self) -> Collected:
        models = self._models()
        artifacts, partials = self._workspace()
        leftovers = [*partials, *self._left_over()]
        return Collected(
            tuple(models),
            tuple(artifacts),
            tuple(leftovers),
            self._rows(),
            self._bytes,
            tuple(self._busy),
        )

    def _models(self) -> Iterator[str]:
        """Archives of searches that ended long ago, or for which there is no room."""
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
        """Note that a search's models have gone, then remove them; not if it runs again."""
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
        """Artifacts over the quota, and stages that were begun and never finished."""
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
        """A stage's folder; used when it was sealed, when it was last reused, or written to."""
        stats = [path.stat(), *_stats(path)]
        used = max(stat.st_mtime for stat in stats)
        size = sum(stat.st_size for stat in stats[1:])
        return Kept(str(path.relative_to(root)), size, used, used >= self._needed_since)

    def _left_over(self) -> Iterator[str]:
        """Of work that was cut off: hidden files and folders, and folders that nobody owns."""
        data = self._settings.data
        found = [
            path
            for pattern in ("results/.*", "results/*/.*", "profiles/.*", ".backup-*", ".restore-*")
            for path in data.glob(pattern)
        ]
        found += [p for p in data.glob("results/[!.]*") if p.name not in self._searches]
        found += [
            p for p in data.glob("scratch/[!.]*") if p.name.partition("-")[0] not in self._under_way
        ]
        found += [p for p in data.glob("tasks/[!.]*") if p.name not in self._tasks]
        for path in found:
            with suppress(FileNotFoundError):  # whoever works there may be quicker
                stats = [path.lstat(), *_stats(path)]
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
        """Events, audit records, tasks and jobs of long ago."""
        retention = self._settings.retention
        events_end = self._now - retention.event_days * _DAY_S
        audit_end = self._now - retention.audit_days * _DAY_S
        ended = sa.select(searches.c.id).where(
            searches.c.status.in_(ENDED), searches.c.updated < events_end
        )
        # How it ended stays, and so does what came after: whoever watches waits for that.
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
        return {name: count for name, count in gone.items() if count}

    def _delete(self, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
        with self._engine.begin() as connection:
            if self._dry_run:
                counted = sa.select(sa.func.count()).select_from(table).where(where)
                return int(connection.execute(counted).scalar_one())
            return connection.execute(table.delete().where(where)).rowcount


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of the files below a folder; what goes while they are counted is left out."""
    for parent, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                yield (Path(parent) / name).lstat()
