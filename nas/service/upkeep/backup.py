"""A service's database and files in one archive, and back into an empty place.

    manifest.json                 the last entry: every other one's size and checksum
    database.sqlite               or database.dump, of pg_dump
    results/ datasets/ teachers/ supernets/ profiles/ tasks/
    workspace/                    only if asked for: it can be computed again

The database comes first, so the files that its rows name exist, and nothing is collected while
files are read. DBOS's tables are in the same database, so jobs come back too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from latency.atomic import replacing
from nas.service.settings import ServiceSettings
from nas.service.upkeep.database_copy import DatabaseCopy
from nas.service.upkeep.retention import alone
from nas.store.full_disk import full_disk_reported
from supernet.errors import NasError

MANIFEST = "manifest.json"
FOLDERS = ("results", "datasets", "teachers", "supernets", "profiles", "tasks")
WORKSPACE = "workspace"

_FORMAT = 1
_BLOCK = 1 << 20
_LARGEST_MANIFEST = 1 << 28


def back_up(settings: ServiceSettings, output: Path, *, workspace: bool = False) -> dict[str, Any]:
    """Write an archive of a service, which may be running.

    Args:
        output: a ``.tar.gz`` file; it appears whole, and only its owner may read it.
        workspace: whether to include finished stages.

    Returns:
        The manifest.

    Raises:
        NasError: there is no database, a file cannot be read, or the disk is full.
    """
    database = DatabaseCopy(settings)
    folders = {name: settings.data / name for name in FOLDERS}
    if workspace:
        folders[WORKSPACE] = _local_workspace(settings)
    with (
        full_disk_reported(output.absolute().parent),
        alone(settings),
        TemporaryDirectory(dir=settings.data, prefix=".backup-") as scratch,
        replacing(output.absolute(), mode=0o600) as temporary,
    ):
        copy = Path(scratch) / database.name
        database.write(copy)
        with tarfile.open(temporary, "w:gz", compresslevel=1) as archive:  # weights do not shrink
            files = {database.name: _add(archive, database.name, copy)}
            for kind, folder in folders.items():
                for path in _files(folder):
                    name = f"{kind}/{path.relative_to(folder).as_posix()}"
                    if (added := _add(archive, name, path)) is not None:
                        files[name] = added
            manifest = {
                "format": _FORMAT,
                "version": version("tailorbert"),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "files": files,
            }
            content = json.dumps(manifest, indent=1).encode()
            entry = tarfile.TarInfo(MANIFEST)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return manifest


def restore(settings: ServiceSettings, archive: Path) -> dict[str, Any]:
    """Bring a service back from an archive, which is checked whole before anything is put in place.

    Args:
        settings: of the new service; its data folder and database must be empty.

    Returns:
        The manifest.

    Raises:
        NasError: the place is not empty, or the archive is damaged, is no backup, or has a database
            of the other kind. The place is then left as it was.
    """
    database = DatabaseCopy(settings)
    data = settings.data
    data.mkdir(parents=True, exist_ok=True)
    with (
        full_disk_reported(data),
        alone(settings),
        TemporaryDirectory(dir=data, prefix=".restore-") as scratch,
    ):
        database.check_empty()
        _check_no_files(settings)
        manifest = _unpack(archive, Path(scratch))
        copy = Path(scratch) / database.name
        if not copy.is_file():
            raise NasError(
                f"backup {archive} holds no {database.name}: its database is of another kind"
            )
        placed: list[Path] = []
        try:
            for name in (*FOLDERS, WORKSPACE):
                if (Path(scratch) / name).is_dir():
                    place = _place(settings, name)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    placed.append(place)
                    if place.exists():
                        place.rmdir()
                    shutil.move(Path(scratch) / name, place)  # a workspace may be on another disk
            database.read(copy)  # last, because a service uses no file without its database
        except BaseException:
            for place in placed:
                shutil.rmtree(place, ignore_errors=True)
            raise
    return manifest


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder, without those that are still being written."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not name.endswith(".partial")
        )
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


class _Hashing:
    """A file whose checksum is computed while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        return block


def _add(archive: tarfile.TarFile, name: str, path: Path) -> dict[str, Any] | None:
    """Add a file; None if it is gone, as a user may have deleted it meanwhile."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        entry = archive.gettarinfo(arcname=name, fileobj=file)
        if not entry.isreg():
            raise NasError(f"{path} is no plain file: it cannot be backed up")
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o644
        entry.type = tarfile.REGTYPE
        hashing = _Hashing(file)
        archive.addfile(entry, hashing)
    return {"bytes": entry.size, "sha256": hashing.digest.hexdigest()}


def _unpack(archive: Path, folder: Path) -> dict[str, Any]:
    """Write an archive's files into a folder and compare them with its manifest, which is returned.

    Raises:
        NasError: the archive is damaged, or no backup of a service.
    """
    found: dict[str, dict[str, Any]] = {}
    manifest: Any = None
    try:
        with tarfile.open(archive, "r:gz") as packed:
            for entry in packed:
                source = packed.extractfile(entry) if entry.isreg() else None
                if source is None:
                    raise NasError(f"backup {archive} holds {entry.name!r}, which is no plain file")
                if entry.name == MANIFEST and entry.size <= _LARGEST_MANIFEST:
                    manifest = json.loads(source.read())
                    continue
                _check_name(archive, entry.name)
                found[entry.name] = _write(source, folder / entry.name)
    except FileNotFoundError as error:
        raise NasError(f"backup {archive}: no such file") from error
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise NasError(f"backup {archive} is damaged or none: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise NasError(f"backup {archive} is not complete, or of another version of TailorBERT")
    for name in sorted({*found, *manifest["files"]}):
        if found.get(name) != manifest["files"].get(name):
            raise NasError(f"backup {archive} is damaged: {name} is not as its manifest says")
    return manifest


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name)
    first, *rest = path.parts or ("",)
    known = first in (*FOLDERS, WORKSPACE) if rest else first in DatabaseCopy.NAMES
    if not known or str(path) != name or ".." in path.parts or path.is_absolute():
        raise NasError(f"backup {archive} holds {name!r}, which is no part of a service")


def _write(source: Any, path: Path) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    hashing = _Hashing(source)
    with path.open("xb") as target:
        shutil.copyfileobj(hashing, target, _BLOCK)
        size = target.tell()
    return {"bytes": size, "sha256": hashing.digest.hexdigest()}


def _check_no_files(settings: ServiceSettings) -> None:
    for name in (*FOLDERS, WORKSPACE):
        place = _place(settings, name)
        if place.is_dir() and any(place.iterdir()):
            raise NasError(
                f"{place} is not empty: a backup is restored where no service has been; "
                "give another --data, or move it away"
            )


def _place(settings: ServiceSettings, name: str) -> Path:
    return _local_workspace(settings) if name == WORKSPACE else settings.data / name


def _local_workspace(settings: ServiceSettings) -> Path:
    """The workspace's folder.

    Raises:
        NasError: it is on shared storage, which needs a backup of its own.
    """
    place = settings.workspace_place
    if "://" in place:
        raise NasError(f"workspace {place} is no folder here: back its storage up by itself")
    return Path(place)
