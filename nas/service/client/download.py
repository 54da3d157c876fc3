"""A model's archive, fetched in as many connections as it takes, and unpacked with care."""

from __future__ import annotations

import hashlib
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import httpx2

from nas.store.result_folder import MODEL, RESULT
from supernet.errors import NasError

Shown = Callable[[int, int], None]
"""Called with the bytes that are there and those there are in all."""

_BLOCK = 1 << 20
_UNFOLDS = 2  # times its size, at most: the service packs without compressing
_BAD = (
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def receive(response: httpx2.Response, file: Path, size: int, shown: Shown) -> None:
    """Add a response's body to a file, or begin it anew where the server sends the whole.

    Args:
        response: to a request for the bytes that the file lacks; not read yet.
        size: of the whole, in bytes.

    Raises:
        NasError: more arrives than there is.
    """
    partial = response.status_code == httpx2.codes.PARTIAL_CONTENT
    with file.open("ab" if partial else "wb") as target:
        there = target.tell()
        for block in response.iter_bytes():  # as it comes: what is held back would be lost
            there += len(block)
            if there > size:
                raise NasError(f"the server sends more than the {size} bytes that it told of")
            target.write(block)
            shown(there, size)


def sha256(path: Path) -> str:
    """A file's checksum, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Write a result's archive into a folder, which then holds what a result may hold.

    Raises:
        NasError: no zip, damaged, with an entry that is no plain file of a result, or much larger
            than it looks; or it cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            files = [entry for entry in packed.infolist() if not entry.is_dir()]
            for entry in files:
                _check(entry)
            if len({entry.filename.casefold() for entry in files}) < len(files):
                raise NasError("the archive names a file twice")
            if sum(entry.file_size for entry in files) > _UNFOLDS * archive.stat().st_size:
                raise NasError(f"the archive unfolds to more than {_UNFOLDS} times its size")
            for entry in files:
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(entry) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, _BLOCK)
    except _BAD as error:
        raise NasError(f"the archive cannot be unpacked: {error}") from error


def _check(entry: zipfile.ZipInfo) -> None:
    """Refuse an entry that would not be a plain file in the place of a result's."""
    name, mode = entry.filename, entry.external_attr >> 16
    path = PurePosixPath(name)
    first, *rest = path.parts or ("",)
    plain = stat.S_IFMT(mode) in (0, stat.S_IFREG)
    inside = str(path) == name and not {"..", "/"} & set(path.parts)
    known = first in RESULT and bool(rest) == (first == MODEL)
    if not (plain and inside and known and name.isprintable() and not set(name) & set("\\:")):
        raise NasError(f"the archive holds {name[:80]!r}, which is no part of a result")
