"""Zip archives of strangers, unpacked under strict rules.

A zip states everything two or three times, and readers differ in which statement they believe. An
archive is accepted only if all statements agree: it fills the file from the first byte to the last,
its entries lie side by side, and each is a plain file with a plain name.
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from supernet.errors import NasError

ZIP_MAGIC = b"PK\x03\x04"
_END = struct.Struct("<4s4H2LH")  # end of central directory, without a comment
_LOCAL = struct.Struct("<4s5H3L2H")  # local file header, before the name
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # bits of an entry's flags
_DEFERRED = 0x8  # checksum and sizes follow the data, and may be 0 before it
_PATCH = 0x20
_UTF_8 = 0x800
_UNICODE_PATH = 0x7075  # an extra field with another name, which some readers prefer
_NAME = re.compile(r"[\w][\w .()+-]{0,99}")
_ARCHIVES = (ZIP_MAGIC, b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!",
             b"\x28\xb5\x2f\xfd")  # fmt: skip
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold.

    Args:
        unpacked_bytes: the size of all its files.
        files: how many files.
        ratio: of unpacked to packed bytes, beyond a megabyte.
    """

    unpacked_bytes: int
    files: int = 100
    ratio: int = 200


def unpack(
    archive: Path, folder: Path, suffixes: Collection[str], limits: ArchiveLimits
) -> list[Path]:
    """The files of ``archive``, unpacked into the new folder ``folder``.

    In the archive they lie side by side, at the top or in one folder.

    Args:
        suffixes: the endings of names that are accepted, such as ``.csv``.

    Raises:
        NasError: it is no plain zip, or exceeds the limits.
    """
    try:
        with zipfile.ZipFile(_checked_frame(archive, limits)) as zipped:
            entries = _checked_entries(zipped, suffixes)
            _check_places(archive, zipped)
            folder.mkdir()
            return _write(zipped, entries, folder, limits)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, struct.error) as error:
        raise NasError(f"{archive.name} is no sound zip archive: {error}") from error
    except (OSError, RuntimeError, zlib.error) as error:
        raise NasError(f"{archive.name} cannot be unpacked: {error}") from error


def _checked_frame(archive: Path, limits: ArchiveLimits) -> Path:
    """The archive, after checks that it fills its file exactly and states few enough entries."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        magic = file.read(len(ZIP_MAGIC))
        if magic != ZIP_MAGIC or size < _END.size:
            raise NasError(f"{archive.name} is no zip archive with files in it")
        file.seek(size - _END.size)
        signature, disk, first_disk, here, count, bytes_, offset, comment = _END.unpack(file.read())
    if signature != b"PK\x05\x06" or comment:
        raise NasError(f"{archive.name} must end where its zip archive ends, without a comment")
    if disk or first_disk or here != count or offset + bytes_ + _END.size != size:
        raise NasError(f"{archive.name} is no zip archive of one part (zip64 is not accepted)")
    if count > 2 * limits.files:
        raise NasError(f"{archive.name} holds {count} entries; at most {limits.files} files")
    return archive


def _checked_entries(
    zipped: zipfile.ZipFile, suffixes: Collection[str]
) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by their names, after checks that these are safe and distinct."""
    found: dict[str, zipfile.ZipInfo] = {}
    seen, parents = set(), set()
    for entry in zipped.infolist():
        shown = entry.orig_filename[:100]
        *parent, name = entry.orig_filename.removesuffix("/").split("/")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if len(parent) > 1 or not all(_NAME.fullmatch(part) for part in (*parent, name)):
            raise NasError(f"entry {shown!r}: names are of letters, digits and . _ - ( ) + alone")
        if entry.flag_bits & _ENCRYPTED:
            raise NasError(f"entry {shown!r} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NasError(f"entry {shown!r} must be stored or deflated")
        same = unicodedata.normalize("NFKC", entry.orig_filename).casefold().removesuffix("/")
        if same in seen:
            raise NasError(f"entry {shown!r} is there twice")
        seen.add(same)
        if entry.is_dir() and not parent and not entry.file_size and kind in (0, stat.S_IFDIR):
            continue
        if entry.is_dir() or kind not in (0, stat.S_IFREG):
            raise NasError(f"entry {shown!r} is neither a plain file nor the one folder of them")
        if not name.endswith(tuple(suffixes)):
            raise NasError(f"entry {shown!r}: accepted are {', '.join(suffixes)}")
        parents.add(tuple(parent))
        found[name] = entry
    if not found or len(parents) > 1:
        raise NasError("an archive must hold files, side by side")
    return found


def _check_places(archive: Path, zipped: zipfile.ZipFile) -> None:
    """Refuse entries whose headers differ or that overlap, and bytes that belong to no entry."""
    expected, between = 0, {b""}
    with archive.open("rb") as file:
        for entry in sorted(zipped.infolist(), key=lambda one: one.header_offset):
            if _bytes_at(file, expected, entry.header_offset) not in between:
                raise NasError(f"entry {entry.orig_filename!r} does not follow the one before it")
            expected = _data_place(file, entry) + entry.compress_size
            between = {b"", *_descriptors(entry)} if entry.flag_bits & _DEFERRED else {b""}
        if _bytes_at(file, expected, zipped.start_dir) not in between:
            raise NasError(f"{archive.name} has bytes that belong to none of its files")


def _bytes_at(file: BinaryIO, begin: int, end: int) -> bytes | None:
    """The bytes between two places; None if they are more than 24 apart or in the wrong order."""
    if not 0 <= end - begin <= 24:
        return None
    file.seek(begin)
    return file.read(end - begin)


def _descriptors(entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """What may follow an entry's data: its checksum and sizes again, in one of four forms."""
    for sizes in ("LL", "QQ"):
        for signature in (b"", b"PK\x07\x08"):
            yield signature + struct.pack(
                f"<L{sizes}", entry.CRC, entry.compress_size, entry.file_size
            )


def _data_place(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where an entry's data begin, after a check that its header agrees with the directory.

    Raises:
        NasError: naming what is stated in two ways.
    """
    file.seek(entry.header_offset)
    _, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = _LOCAL.unpack(
        file.read(_LOCAL.size)
    )
    name = file.read(name_bytes).decode("utf-8" if flags & _UTF_8 else "cp437")
    extra = file.read(extra_bytes)
    if flags & _ENCRYPTED:
        raise NasError(f"entry {entry.orig_filename!r} is encrypted")
    unknown = (0,) if flags & _DEFERRED else ()
    further = (*_further_names(extra), *_further_names(entry.extra))
    stated = {
        "name": {name, entry.orig_filename, *further} == {entry.orig_filename},
        "method": method == entry.compress_type,
        "flags": not (flags ^ entry.flag_bits) & (_DEFERRED | _PATCH),
        "checksum": crc in (entry.CRC, *unknown),
        "packed size": packed in (entry.compress_size, *unknown),
        "size": size in (entry.file_size, *unknown),
    }
    for what, is_same in stated.items():
        if not is_same:
            raise NasError(f"entry {entry.orig_filename!r} states its {what} in two ways")
    return entry.header_offset + _LOCAL.size + name_bytes + extra_bytes


def _further_names(extra: bytes) -> Iterator[str]:
    """The names that a header's extra fields state in addition."""
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == _UNICODE_PATH:
            yield extra[9 : 4 + length].decode()  # behind a version and a checksum
        extra = extra[4 + length :]


def _write(
    zipped: zipfile.ZipFile,
    entries: dict[str, zipfile.ZipInfo],
    folder: Path,
    limits: ArchiveLimits,
) -> list[Path]:
    if len(entries) > limits.files:
        raise NasError(f"it holds {len(entries)} files; accepted are {limits.files} at most")
    packed = sum(entry.compress_size for entry in entries.values())
    most = min(limits.unpacked_bytes, max(_CHUNK, limits.ratio * packed))
    total, paths = 0, []
    for name, entry in entries.items():
        path = folder / name
        with zipped.open(entry) as source, path.open("xb") as file:
            while chunk := source.read(_CHUNK):
                if not file.tell() and _is_archive(chunk):
                    raise NasError(f"entry {name!r} is an archive itself")
                total += len(chunk)
                if total > most:
                    raise NasError(f"it unfolds to more than {most:,} bytes")
                file.write(chunk)
            if file.tell() != entry.file_size:
                raise NasError(f"entry {name!r} has another size than it states")
        paths.append(path)
    return paths


def _is_archive(start: bytes) -> bool:
    content = start[:512]
    return content.startswith(_ARCHIVES) or content[257:262] == b"ustar"
