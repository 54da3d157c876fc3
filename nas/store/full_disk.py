"""The one line that a full disk deserves, whichever library runs into it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supernet.errors import NasError

_SIGNS = (os.strerror(errno.ENOSPC), "unexpected pos", "iostream error")


@contextmanager
def full_disk_reported(folder: Path) -> Iterator[None]:
    """Turn any failure for want of space into the one line that says so.

    Raises:
        NasError: the disk is full. What was built so far stays for the next run.
    """
    try:
        yield
    except Exception as error:
        if not _is_for_want_of_space(error):
            raise
        free = shutil.disk_usage(nearest_existing(folder)).free / 2**20
        raise NasError(
            f"the disk of {folder} is full or nearly so ({free:.0f} MiB free): make room or choose "
            "another folder, then run the same command again; finished work is kept"
        ) from error


def _is_for_want_of_space(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a full disk or quota.

    Native writers (safetensors, ONNX) pass the system's words on in an exception of their own;
    PyTorch's says only that its stream failed.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(sign in str(error) for sign in _SIGNS):
            return True
        error = error.__cause__ or error.__context__
    return False


def nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
