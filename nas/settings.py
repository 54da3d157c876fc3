"""Where the product finds what is not passed to it: the only reader of environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from supernet.errors import NasError

DEFAULT_CACHE_DIR = Path("~/.cache/tailorbert")


def data_folder() -> Path | None:
    """The folder of data sets that benchmarks and opt-in tests read: ``NAS_DATA``, if set.

    Raises:
        NasError: ``NAS_DATA`` names no folder.
    """
    value = os.environ.get("NAS_DATA")
    if not value:
        return None
    folder = Path(value)
    if not folder.is_dir():
        raise NasError(f"NAS_DATA must name a folder, and {value!r} is none")
    return folder


def cache_folder() -> Path:
    """The folder of copies that can be made again: ``NAS_CACHE``, or ``~/.cache/tailorbert``."""
    return Path(os.environ.get("NAS_CACHE") or DEFAULT_CACHE_DIR).expanduser()


def hide_gpus() -> None:
    """Have this process compute on CPUs; before it looks for GPUs.

    A worker that reserved none must take none: Ray leaves all that there are in sight.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
