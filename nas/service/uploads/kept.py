"""Data sets, teachers and supernets that users have uploaded: a row of a table and a folder each.

A folder is moved into its place within the transaction that makes its row, so whoever sees the row
finds the folder. What a crash leaves half done has no row, or no folder, and is cleaned away at the
next start.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import IntegrityError

from latency.atomic import sync
from nas.service.access import forget_shares
from nas.service.database import take_turns
from nas.service.service import Service
from nas.service.tables import searches, uploads
from supernet.errors import NasError

UploadKind = Literal["dataset", "teacher", "supernet"]
FOLDERS: dict[UploadKind, str] = {
    "dataset": "datasets",
    "teacher": "teachers",
    "supernet": "supernets",
}
NAMED_AT: dict[UploadKind, tuple[tuple[str, ...], ...]] = {
    "dataset": (("data",), ("recipe", "general", "texts"), ("recipe", "distill", "texts")),
    "teacher": (("teacher",),),
    "supernet": (("supernet",),),
}
"""Where a search's request names one."""

_ARRIVING = "uploads"


class TakenError(Exception):
    """The name stands for something else."""


class InUseError(Exception):
    """A search that has not ended names it.

    Args:
        search_id: of that search.
    """

    def __init__(self, search_id: str) -> None:
        super().__init__(search_id)
        self.search_id = search_id


class FullError(Exception):
    """The user has as many as one may have."""


@dataclass(frozen=True)
class Arrival:
    """An upload on its way in: a folder of its own, and a lock that says somebody is at it."""

    folder: Path
    lock: int

    def end(self) -> None:
        """Leave nothing of it but what was kept."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)


def begin_arrival(service: Service) -> Arrival:
    """A new folder for an upload to arrive in; to be ended, whatever becomes of it."""
    lock = _lock(service, fcntl.LOCK_SH)
    folder = service.folder(_ARRIVING) / secrets.token_hex(8)
    try:
        folder.mkdir()
    except OSError:
        os.close(lock)
        raise
    return Arrival(folder, lock)


def find_upload(engine: Engine, kind: UploadKind, name: str) -> Row[Any] | None:
    """Its row, if there is one."""
    with engine.connect() as connection:
        return connection.execute(sa.select(uploads).where(_is(kind, name))).one_or_none()


def count_uploads(connection: Connection, owner: str) -> int:
    """Data sets, teachers and supernets of a user."""
    query = sa.select(sa.func.count()).select_from(uploads).where(uploads.c.owner == owner)
    return int(connection.execute(query).scalar_one())


def keep_upload(
    service: Service,
    kind: UploadKind,
    name: str,
    kept: Path,
    *,
    owner: str,
    digest: str,
    about: dict[str, Any],
) -> bool:
    """Give a checked folder its name.

    Args:
        kept: the folder, in that of an arrival; it is moved.
        digest: sha256 of what was uploaded.
        about: what was found in it.

    Returns:
        whether it is new; an equal upload that came first is kept in its stead.

    Raises:
        TakenError: another upload has the name.
        FullError: the user has as many uploads as one may have.
    """
    size = sum(path.stat().st_size for path in kept.iterdir())
    for path in (*kept.iterdir(), kept):
        sync(path)
    place = _place(service, kind, name)
    try:
        with service.engine.begin() as connection:
            connection.execute(
                uploads.insert().values(
                    kind=kind,
                    name=name,
                    owner=owner,
                    created=time.time(),
                    digest=digest,
                    bytes=size,
                    about=about,
                )
            )
            forget_shares(connection, kind, name)
            take_turns(connection, f"uploads of {owner}")
            if count_uploads(connection, owner) > service.settings.limits.stored_per_user:
                raise FullError
            # The row is ours alone, so whatever stands there was left by a crash.
            shutil.rmtree(place, ignore_errors=True)
            os.rename(kept, place)
            sync(place.parent)
    except IntegrityError:
        found = find_upload(service.engine, kind, name)
        if found is None or found.digest != digest:
            raise TakenError from None
        return False
    return True


def delete_upload(service: Service, kind: UploadKind, name: str) -> None:
    """Remove one, row and folder.

    Raises:
        InUseError: a queued or running search names it.
    """
    arrival = begin_arrival(service)
    try:
        with service.engine.begin() as connection:
            # The row first: a search that is being submitted holds it (see hold_upload).
            connection.execute(uploads.delete().where(_is(kind, name)))
            forget_shares(connection, kind, name)
            request = searches.c.request
            named = (request[keys].as_string() == name for keys in NAMED_AT[kind])
            user = connection.execute(
                sa.select(searches.c.id)
                .where(searches.c.status.in_(("queued", "running")), sa.or_(*named))
                .limit(1)
            ).scalar_one_or_none()
            if user is not None:
                raise InUseError(user)
            place = _place(service, kind, name)
            if place.exists():
                os.rename(place, arrival.folder / "gone")
    finally:
        arrival.end()


def uploads_named(request: Mapping[str, Any]) -> list[tuple[UploadKind, str]]:
    """(kind, name) of whatever a search's request names that may be an upload."""
    found: list[tuple[UploadKind, str]] = []
    for kind, places in NAMED_AT.items():
        for keys in places:
            value: Any = request
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if isinstance(value, str):
                found.append((kind, value))
    return found


def hold_upload(connection: Connection, kind: UploadKind, name: str) -> bool:
    """Whether there is one, which then stays until the connection's transaction has ended."""
    query = sa.select(uploads.c.name).where(_is(kind, name)).with_for_update(read=True)
    return connection.execute(query).one_or_none() is not None


def dataset_folder(service: Service, name: str) -> Path:
    """The folder of an uploaded data set, as :func:`nas.data.task_data.load_data` reads it.

    Raises:
        NasError: there is none of that name.
    """
    return _folder(service, "dataset", name)


def teacher_folder(service: Service, name: str) -> Path:
    """The folder of an uploaded teacher, for :func:`nas.models.teacher.load_teacher`.

    Raises:
        NasError: there is none of that name.
    """
    return _folder(service, "teacher", name)


def supernet_folder(service: Service, name: str) -> Path:
    """The folder of an uploaded supernet, for :meth:`supernet.model.Supernet.from_pretrained`.

    Raises:
        NasError: there is none of that name.
    """
    return _folder(service, "supernet", name)


def clean_uploads(service: Service) -> None:
    """Remove what crashes have left: halves of uploads, folders without rows, rows without folders.

    Nothing is done while any process of the service is receiving an upload; the next start will.
    """
    with _alone(service) as is_alone:
        if not is_alone:
            return
        for left in service.folder(_ARRIVING).iterdir():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        with service.engine.begin() as connection:
            rows = connection.execute(sa.select(uploads.c.kind, uploads.c.name)).all()
            known = {(row.kind, row.name) for row in rows}
            for kind in FOLDERS:
                there = {path.name: path for path in service.folder(FOLDERS[kind]).iterdir()}
                for name, path in there.items():
                    if (kind, name) not in known:
                        shutil.rmtree(path, ignore_errors=True)
                for one, name in known:
                    if one == kind and name not in there:
                        connection.execute(uploads.delete().where(_is(kind, name)))
                        forget_shares(connection, kind, name)


def _folder(service: Service, kind: UploadKind, name: str) -> Path:
    if find_upload(service.engine, kind, name) is None:
        raise NasError(f"there is no uploaded {kind} {name!r}")
    return _place(service, kind, name)


def _place(service: Service, kind: UploadKind, name: str) -> Path:
    return service.folder(FOLDERS[kind]) / name


def _is(kind: UploadKind, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(uploads.c.kind == kind, uploads.c.name == name)


def _lock(service: Service, how: int) -> int:
    """A lock on all uploads, of a file that stays; the system frees it with the process.

    Raises:
        BlockingIOError: it is asked for at once, and others hold it.
    """
    path = service.folder(_ARRIVING) / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _alone(service: Service) -> Iterator[bool]:
    """Whether no upload is on its way in; none begins meanwhile."""
    try:
        lock = _lock(service, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(lock)
