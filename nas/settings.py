"""Where the product finds what is not passed to it: the only reader of environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from supernet.errors import NasError

_CACHE = "~/.cache/tailorbert"
_SECRETS = ("NAS_DATABASE_URL", "NAS_TOKEN", "NAS_WEBHOOK_SECRET")


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
    """The folder of what can be made again: ``NAS_CACHE``, or ``~/.cache/tailorbert``.

    Raises:
        NasError: there is no home folder to have it in.
    """
    try:
        return Path(os.environ.get("NAS_CACHE") or _CACHE).expanduser()
    except RuntimeError as error:
        raise NasError("NAS_CACHE must name a folder, as this user has no home") from error


def secret(name: str) -> str | None:
    """A secret from the variable ``name``, or from the file that ``name`` with ``_FILE`` names.

    Raises:
        NasError: the file cannot be read.
    """
    value = os.environ.get(name)
    place = os.environ.get(f"{name}_FILE")
    if value or not place:
        return value or None
    try:
        return Path(place).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NasError(f"{name}_FILE: {place} cannot be read: {error.strerror}") from error


def forget_secrets() -> None:
    """Take the secrets out of this process's environment, before it works on what others sent."""
    for name in _SECRETS:
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)


def server_url() -> str:
    """The service that commands talk to: ``NAS_SERVER``, or the one that serves here."""
    return os.environ.get("NAS_SERVER") or "http://127.0.0.1:8765"


def hide_gpus() -> None:
    """Have this process compute on CPUs; before it looks for GPUs.

    A worker that reserved none must take none: Ray leaves all that there are in sight.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
