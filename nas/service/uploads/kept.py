"""Data sets, teachers and supernets that users have uploaded: a row of a table and a folder each.

A folder is moved into its place within the transaction that makes its row, so whoever sees the row
finds the folder. What a crash leaves half done is removed by :mod:`nas.service.upkeep.retention`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import IntegrityError

from latency.atomic import sync
from nas.service.access.visibility import forget_shares
from nas.service.conflicts import ConflictError
from nas.service.database.engine import count_in_turn, first_row
from nas.service.database.tables import searches, uploads
from nas.service.service import Service, UploadKind
from supernet.errors import NasError

NAMED_AT: dict[UploadKind, tuple[tuple[str, ...], ...]] = {
    "dataset": (("data",), ("recipe", "general", "texts"), ("recipe", "distill", "texts")),
    "teacher": (("teacher",),),
    "supernet": (("supernet",),),
}
"""Where a search's request names an upload."""


class InUseError(Exception):
    """A search that has not ended names the upload.

    Args:
        search_id: of that search.
    """

    def __init__(self, search_id: str) -> None:
        super().__init__(search_id)
        self.search_id = search_id


def begin_arrival(service: Service) -> TemporaryDirectory[str]:
    """A folder for an upload to arrive in; clean it up, whatever becomes of the upload."""
    return TemporaryDirectory(dir=service.folder("uploads"), ignore_cleanup_errors=True)


def find_upload(engine: Engine, kind: UploadKind, name: str) -> Row[Any] | None:
    """The row of an upload, if there is one."""
    return first_row(engine, sa.select(uploads).where(_is(kind, name)))


def name_taken(kind: UploadKind, name: str) -> ConflictError:
    """The error where another upload has a name."""
    return ConflictError(f"another {kind} is called {name!r}: delete it, or take another name")


def check_room(service: Service, connection: Connection, owner: str, *, more: int) -> None:
    """Refuse what would be more uploads than one user may have.

    Args:
        more: uploads besides those that the connection sees.

    Raises:
        ConflictError: there is no room.
    """
    most = service.settings.limits.stored_per_user
    if count_in_turn(connection, uploads, owner) + more > most:
        raise ConflictError(f"you have {most} data sets, teachers and supernets; delete one first")


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
        kept: the folder, within that of an arrival; it is moved.
        digest: sha256 of what was uploaded.
        about: what was found in it.

    Returns:
        whether it is new; an equal upload that came first is kept instead.

    Raises:
        ConflictError: another upload has the name, or the user has as many as one may have.
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
            check_room(service, connection, owner, more=0)
            # The row is ours alone, so whatever stands there was left by a crash.
            shutil.rmtree(place, ignore_errors=True)
            os.rename(kept, place)
            sync(place.parent)
    except IntegrityError:
        found = find_upload(service.engine, kind, name)
        if found is None or found.digest != digest:
            raise name_taken(kind, name) from None
        return False
    return True


def delete_upload(service: Service, kind: UploadKind, name: str) -> None:
    """Remove the row and the folder of an upload.

    Raises:
        InUseError: a queued or running search names it.
    """
    with begin_arrival(service) as gone, service.engine.begin() as connection:
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
            os.rename(place, Path(gone) / name)


def uploads_named(request: Mapping[str, Any]) -> list[tuple[UploadKind, str]]:
    """(kind, name) of all that a search's request names and that may be an upload."""
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
    """Whether there is such an upload; it then stays until the connection's transaction ends."""
    query = sa.select(uploads.c.name).where(_is(kind, name)).with_for_update(read=True)
    return connection.execute(query).one_or_none() is not None


def source(service: Service, kind: UploadKind, name: str) -> str:
    """What a pipeline takes for a name: what the service offers by it, or an upload's folder.

    Raises:
        NasError: there is none of that name.
    """
    offered = service.offered(kind)
    return offered[name] if name in offered else str(upload_folder(service, kind, name))


def upload_folder(service: Service, kind: UploadKind, name: str) -> Path:
    """The folder of an upload.

    Raises:
        NasError: there is none of that name.
    """
    if find_upload(service.engine, kind, name) is None:
        raise NasError(f"there is no uploaded {kind} {name!r}")
    return _place(service, kind, name)


def _place(service: Service, kind: UploadKind, name: str) -> Path:
    return service.folder(f"{kind}s") / name


def _is(kind: UploadKind, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(uploads.c.kind == kind, uploads.c.name == name)
