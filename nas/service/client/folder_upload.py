"""A folder as a zip that is written while it is sent, so that none has to lie on the disk."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from supernet.errors import NasError

_BLOCK = 1 << 20


class _Sent:
    """A file that is only written to, from which what was written is taken away."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, data: bytes) -> int:
        self._waiting += data
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


def zipped(folder: Path, wanted: Callable[[str], object], what: str) -> Iterator[bytes]:
    """The files of a folder as a zip's blocks; equal files are equal bytes, whenever zipped.

    Args:
        wanted: by its name, whether a file is sent. Others stay behind, as do folders within.
        what: such files are called in messages.

    Raises:
        NasError: there are none.
    """
    files = sorted(path for path in folder.iterdir() if wanted(path.name) and path.is_file())
    if not files:
        raise NasError(f"folder {folder} holds no {what}")
    sent = _Sent()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload] # it only writes and flushes
        for path in files:
            entry = zipfile.ZipInfo(path.name)  # its date is a constant
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.file_size = path.stat().st_size  # whether it needs the form for large files
            entry.external_attr = 0o644 << 16
            with path.open("rb") as source, archive.open(entry, "w") as target:
                while block := source.read(_BLOCK):
                    target.write(block)
                    yield sent.take()
    yield sent.take()
