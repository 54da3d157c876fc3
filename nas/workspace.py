"""Workspace: each pipeline stage's artifact, stored by the hash of what it was made from.

    workspace/
      supernet/3f0c9a51d2b7e684/            a sealed artifact
        manifest.json                         inputs, checksums, seconds, versions
        model.safetensors ...
      supernet/8d41…c2.partial/              one being built: a killed stage goes on in here
        checkpoints/                          scratch, removed before sealing

An artifact is sealed by one rename, so a folder without ``.partial`` in its name was complete when
it appeared; its checksums tell whether it still is.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from supernet.errors import NasError

MANIFEST = "manifest.json"
SCRATCH = "checkpoints"
"""The subfolder where a build keeps what only a resumed build needs."""

_CLOCK = ".build-clock.json"
_STAGE = re.compile(r"[a-z][a-z0-9-]*")
_PACKAGES = ("tailorbert", "torch", "transformers", "numpy", "scikit-learn", "onnxruntime")
_LOCK_PATIENCE_S = 0.5
"""Long enough for a process that has just taken the lock to write down its id."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A sealed folder of one stage.

    Args:
        stage: the stage's name.
        key: hash of the stage and its inputs; what a later stage names among its own inputs.
        path: the folder.
        seconds: what building it took, over all runs that worked on it.
        reused: whether it stood there before this call.
    """

    stage: str
    key: str
    path: Path
    seconds: float
    reused: bool


def artifact_key(stage: str, inputs: Json) -> str:
    """The sha256, as 64 hex digits, of the canonical JSON of a stage's name and inputs.

    Key order does not matter; tuples count as lists; 1 and 1.0 differ.

    Raises:
        NasError: a stage that is no folder name, or inputs that JSON cannot state exactly.
    """
    if not _STAGE.fullmatch(stage):
        raise NasError(f"stage {stage!r} must be lower-case letters, digits and hyphens")
    _check_json(inputs, f"inputs of {stage}")
    return hashlib.sha256(_canonical({"stage": stage, "inputs": inputs}).encode()).hexdigest()


class Workspace:
    """The folder in which the pipeline keeps its artifacts.

    Args:
        root: created when missing.
        warn: receives one line for each corrupt artifact; the log by default.

    Raises:
        NasError: ``root`` is not a folder, or cannot be created.

    Example:
        >>> import tempfile
        >>> def build(folder):
        ...     _ = (folder / "greeting.txt").write_text("hello")
        >>> with tempfile.TemporaryDirectory() as root:
        ...     workspace = Workspace(Path(root))
        ...     first = workspace.artifact("greet", {"language": "en"}, build)
        ...     again = workspace.artifact("greet", {"language": "en"}, build)
        >>> first.reused, again.reused, first.path == again.path
        (False, True, True)
    """

    def __init__(
        self, root: Path, warn: Callable[[str], None] = logging.getLogger(__name__).warning
    ) -> None:
        self.root = Path(root).absolute()
        self._warn = warn
        with _full_disk_reported(self.root):
            try:
                self.root.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError, PermissionError) as error:
                raise NasError(f"workspace {root} cannot be a folder: {error.strerror}") from error
        self._lock = FileLock(self.root / ".lock")
        self._owner = self.root / ".lock-owner"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace for this process; nested use is free.

        The operating system frees the lock however the process ends, ``kill -9`` included.

        Raises:
            NasError: another run holds it; the message names its process id.
        """
        outermost = not self._lock.is_locked
        try:
            self._lock.acquire(timeout=_LOCK_PATIENCE_S)
        except Timeout as error:
            raise NasError(
                f"workspace {self.root} is in use by process {self._owner_id()}: "
                "wait for it to end, or choose another workspace"
            ) from error
        except PermissionError as error:
            raise NasError(f"workspace {self.root} cannot be written to") from error
        try:
            if outermost:
                with _full_disk_reported(self.root):
                    _write_atomically(self._owner, f"{os.getpid()}\n")
            yield
        finally:
            if outermost:
                self._owner.unlink(missing_ok=True)
            self._lock.release()

    def artifact(self, stage: str, inputs: Json, build: Callable[[Path], None]) -> Artifact:
        """The artifact of ``stage`` for ``inputs``: the one that stands there, or a new one.

        Args:
            stage: lower-case letters, digits and hyphens; the folder it lies under.
            inputs: all that decides the outcome: settings, data digests, keys of the artifacts it
                is made from. JSON values only.
            build: writes the artifact's files into the folder it is given. That folder is the
                same one after a crash, with whatever the killed run left in it, so a build that
                keeps checkpoints in ``checkpoints/`` goes on from them. Finished files must be
                written whole (a temporary name, then a rename). ``manifest.json`` is taken.

        Raises:
            NasError: the disk is full, another run holds the workspace, or a bad stage or inputs.
        """
        key = artifact_key(stage, inputs)
        folder = self.root / stage / key[:16]
        partial = folder.with_name(f"{folder.name}.partial")
        with self.lock(), _full_disk_reported(self.root):
            if os.path.lexists(folder):
                try:
                    return Artifact(stage, key, folder, _verified_seconds(folder, key), True)
                except _CorruptError as error:
                    self._warn(f"artifact {stage}/{folder.name} is corrupt ({error}): rebuilding")
                    _remove(folder)
            if not _is_complete(partial, key):
                _build(partial, build, key, stage, inputs)
            seconds = _seal(partial, folder, key)
        return Artifact(stage, key, folder, seconds, False)

    def _owner_id(self) -> str:
        try:
            return self._owner.read_text().strip()
        except OSError:  # it ended this very moment
            return "unknown"


# ---- building and sealing ------------------------------------------------------------------------


def _build(
    partial: Path, build: Callable[[Path], None], key: str, stage: str, inputs: Json
) -> None:
    """Run ``build`` in ``partial`` and write the manifest, which marks it complete."""
    partial.mkdir(parents=True, exist_ok=True)
    for leftover in (partial / MANIFEST, _temporary(partial / MANIFEST)):
        leftover.unlink(missing_ok=True)
    spent = _seconds_spent(partial)
    _write_atomically(partial / _CLOCK, json.dumps({"seconds": spent, "started_at": time.time()}))
    start = time.monotonic()
    build(partial)
    try:
        files = _files(partial)
    except _CorruptError as error:
        raise NasError(f"stage {stage} cannot be stored: {error}") from error
    for path in files.values():
        _sync(path)
    manifest = {
        "stage": stage,
        "key": key,
        "inputs": inputs,
        "seconds": round(spent + time.monotonic() - start, 3),
        "versions": _versions(),
        "files": {
            name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            for name, path in files.items()
        },
    }
    _write_atomically(partial / MANIFEST, json.dumps(_signed(manifest), indent=1) + "\n")


def _seal(partial: Path, folder: Path, key: str) -> float:
    """Turn a complete ``partial`` into ``folder``; safe to be killed in and repeated."""
    _remove(partial / SCRATCH)
    (partial / _CLOCK).unlink(missing_ok=True)
    for parent, _, _ in os.walk(partial):
        _sync(Path(parent))
    seconds = _verified_manifest(partial, key)["seconds"]
    os.rename(partial, folder)
    _sync(folder.parent)
    return float(seconds)


def _seconds_spent(partial: Path) -> float:
    """Seconds that earlier runs worked in ``partial``.

    A killed run cannot write down when it ended: it counts until the last file it wrote.
    """
    try:
        clock = json.loads((partial / _CLOCK).read_text())
        spent, started = float(clock["seconds"]), float(clock["started_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
    written = [p.stat().st_mtime for p in partial.rglob("*") if p.is_file()]
    return spent + max(0.0, max(written) - started)


# ---- verifying -----------------------------------------------------------------------------------


class _CorruptError(Exception):
    """What is wrong with an artifact, in a few words."""


def _is_complete(partial: Path, key: str) -> bool:
    """Whether a run was killed after it had built ``partial``, before it had sealed it."""
    try:
        _verified_seconds(partial, key)
    except _CorruptError:
        return False
    return True


def _verified_seconds(folder: Path, key: str) -> float:
    """Check every file against the manifest; the seconds that the build took."""
    manifest = _verified_manifest(folder, key)
    found = _files(folder)  # names come from the disk, so no manifest can point outside
    for name, expected in manifest["files"].items():
        if name not in found:
            raise _CorruptError(f"{name} is missing")
        if found[name].stat().st_size != expected["bytes"]:
            raise _CorruptError(f"{name} has not its {expected['bytes']} bytes")
        if _sha256(found[name]) != expected["sha256"]:
            raise _CorruptError(f"{name} was altered")
    return float(manifest["seconds"])


def _verified_manifest(folder: Path, key: str) -> dict[str, Any]:
    if folder.is_symlink() or not folder.is_dir():
        raise _CorruptError("it is no folder")
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        intact = isinstance(manifest, dict) and manifest == _signed(manifest)
    except FileNotFoundError as error:
        raise _CorruptError(f"{MANIFEST} is missing") from error
    except (OSError, ValueError) as error:
        raise _CorruptError(f"{MANIFEST} is unreadable") from error
    if not intact:
        raise _CorruptError(f"{MANIFEST} was altered")
    if manifest["key"] != key:
        raise _CorruptError("it was made from other inputs")
    return manifest


def _signed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the checksum of its own content."""
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    return content | {"sha256": hashlib.sha256(_canonical(content).encode()).hexdigest()}


def _files(folder: Path) -> dict[str, Path]:
    """The artifact's own files by their path within it: no manifest, clock or scratch.

    Raises:
        _CorruptError: something there is neither a file nor a folder, a link for one.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] in (MANIFEST, _CLOCK, SCRATCH):
            continue
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise _CorruptError(f"{name} is not a regular file")
        if path.is_file():
            found[name.as_posix()] = path
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- JSON and versions ---------------------------------------------------------------------------


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _check_json(value: Any, where: str) -> None:
    """Refuse what JSON would change in silence: number keys, NaN, and any other type."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            if not isinstance(name, str):
                raise NasError(f"{where}: key {name!r} must be text")
            _check_json(member, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            _check_json(member, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise NasError(f"{where} must be a finite number, not {value}")
    elif not (value is None or isinstance(value, str | int | float)):
        raise NasError(f"{where} must be a JSON value, not {value!r}")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


# ---- disk ----------------------------------------------------------------------------------------


def _write_atomically(path: Path, text: str) -> None:
    temporary = _temporary(path)
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")


def _sync(path: Path) -> None:
    """Have the disk hold a file, or a folder's entries, before the next step relies on it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


@contextmanager
def _full_disk_reported(folder: Path) -> Iterator[None]:
    """Turn any failure for want of space into the one line that says so.

    Raises:
        NasError: the disk is full. What was built so far stays for the next run.
    """
    try:
        yield
    except Exception as error:
        if not _is_for_want_of_space(error):
            raise
        free = shutil.disk_usage(_nearest_existing(folder)).free / 2**20
        raise NasError(
            f"the disk of workspace {folder} is full ({free:.0f} MiB free): make room or choose "
            "another workspace, then run the same command again; finished work is kept"
        ) from error


def _is_for_want_of_space(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a full disk or quota.

    Native writers (safetensors, ONNX) pass the system's words on in an exception of their own.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
