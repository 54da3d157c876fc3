"""Workspace: each pipeline stage's artifact, stored by the hash of what it was made from.

    workspace/
      supernet/3f0c9a51d2b7e684/            a sealed artifact
        manifest.json                         inputs, checksums, seconds, versions
        model.safetensors ...
      supernet/8d41…c2.partial/              one being built: a killed stage goes on in here
        checkpoints/                          scratch, removed before sealing

An artifact is sealed by one rename, so a folder without ``.partial`` in its name was complete when
it appeared; its checksums tell whether it still is. A workspace may be shared through storage that
fsspec opens; it then works in a local folder, and brings and gives whole artifacts.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from latency.atomic import sync, write_text
from nas.settings import cache_folder
from nas.store.full_disk import full_disk_reported
from nas.store.manifest import (
    CLOCK,
    MANIFEST,
    SCRATCH,
    CorruptError,
    Json,
    artifact_key,
    read_manifest,
    verify,
    write_manifest,
)
from nas.store.shared_artifact import SharedArtifact
from nas.store.storage import Storage
from supernet.errors import NasError

_LOCK_PATIENCE_S = 0.5
"""Long enough for a process that has just taken the lock to write down its id."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A sealed folder of one stage.

    Args:
        stage: the stage's name.
        key: hash of the stage and its inputs; what a later stage names among its own inputs.
        path: the folder.
        seconds: what building it took, over all runs that worked on it.
        reused: whether it stood there, or on shared storage, before this call.
    """

    stage: str
    key: str
    path: Path
    seconds: float
    reused: bool


class Workspace:
    """The folder in which the pipeline keeps its artifacts.

    Args:
        root: created when missing.
        warn: receives one line for each corrupt artifact; the log by default.
        storage: shared with other machines; where it has an artifact, that is the one that counts.
        patience_s: how long to wait for another run that holds the workspace; below 0 for good.

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
        self,
        root: Path,
        warn: Callable[[str], None] = logging.getLogger(__name__).warning,
        storage: Storage | None = None,
        patience_s: float = _LOCK_PATIENCE_S,
    ) -> None:
        self.root = Path(root).absolute()
        self._patience_s = patience_s
        self.warn = warn
        self.storage = storage
        with full_disk_reported(self.root):
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
            self._lock.acquire(timeout=self._patience_s)
        except Timeout as error:
            raise NasError(
                f"workspace {self.root} is in use by process {self._owner_id()}: "
                "wait for it to end, or choose another workspace"
            ) from error
        except PermissionError as error:
            raise NasError(f"workspace {self.root} cannot be written to") from error
        try:
            if outermost:
                with full_disk_reported(self.root):
                    write_text(self._owner, f"{os.getpid()}\n")
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
            NasError: the disk is full, another run holds the workspace, shared storage does not
                answer, or a bad stage or inputs.
        """
        key = artifact_key(stage, inputs)
        folder = self.root / stage / key[:16]
        partial = folder.with_name(f"{folder.name}.partial")
        shared = (
            None if self.storage is None else SharedArtifact(self.storage, stage, key, self.warn)
        )
        with self.lock(), full_disk_reported(self.root):
            reused = self._stands(folder, key)
            is_shared = shared is not None and shared.bring(folder)
            if reused:
                os.utime(folder)  # retention goes by it: what is of use stays
            if not (reused or is_shared):
                if not _is_complete(partial, key):
                    _build(partial, build, key, stage, inputs)
                _seal(partial, folder)
            if is_shared:
                _remove(partial)
            elif shared is not None:
                shared.give(folder)
            seconds = float(read_manifest(folder, key)["seconds"])
        return Artifact(stage, key, folder, seconds, reused or is_shared)

    def has(self, stage: str, inputs: Json) -> bool:
        """Whether an artifact seems to stand here; unlike :meth:`artifact`, nothing is checked."""
        return (self.root / stage / artifact_key(stage, inputs)[:16]).is_dir()

    def _stands(self, folder: Path, key: str) -> bool:
        """Whether ``folder`` is the artifact, whole; what is not makes way."""
        if not os.path.lexists(folder):
            return False
        try:
            verify(folder, key)
        except CorruptError as error:
            self.warn(
                f"artifact {folder.parent.name}/{folder.name} is corrupt ({error}): replacing it"
            )
            _remove(folder)
            return False
        return True

    def _owner_id(self) -> str:
        try:
            return self._owner.read_text().strip()
        except OSError:  # it ended this very moment
            return "unknown"


def open_workspace(
    where: str,
    warn: Callable[[str], None] = logging.getLogger(__name__).warning,
    patience_s: float = _LOCK_PATIENCE_S,
) -> Workspace:
    """The workspace in a local folder, or the one that machines share at a URL.

    Args:
        where: a folder, or a URL that fsspec opens, such as ``s3://bucket/team``. What is at a URL
            is worked on in a folder of its own below :func:`nas.settings.cache_folder`.
        warn, patience_s: as for :class:`Workspace`.

    Raises:
        NasError: as :class:`Workspace` and :class:`nas.store.storage.Storage` raise it.
    """
    if "://" not in where:
        return Workspace(Path(where), warn, patience_s=patience_s)
    storage = Storage(where)
    return Workspace(cache_folder() / "workspaces" / storage.digest, warn, storage, patience_s)


def _build(
    partial: Path, build: Callable[[Path], None], key: str, stage: str, inputs: Json
) -> None:
    """Run ``build`` in ``partial`` and write the manifest, which marks it complete."""
    partial.mkdir(parents=True, exist_ok=True)
    (partial / MANIFEST).unlink(missing_ok=True)
    half_written = [*partial.glob(f".{MANIFEST}.*"), *partial.glob(f".{CLOCK}.*")]
    half_written += [path for path in partial.rglob(".tmp*") if path.is_file()]  # of safetensors
    for path in half_written:
        path.unlink()
    spent = _seconds_spent(partial)
    write_text(partial / CLOCK, json.dumps({"seconds": spent, "started_at": time.time()}))
    start = time.monotonic()
    build(partial)
    write_manifest(partial, stage, key, inputs, spent + time.monotonic() - start)


def _seal(partial: Path, folder: Path) -> None:
    """Turn a complete ``partial`` into ``folder``; safe to be killed in and repeated."""
    _remove(partial / SCRATCH)
    (partial / CLOCK).unlink(missing_ok=True)
    for parent, _, _ in os.walk(partial):
        sync(Path(parent))
    os.rename(partial, folder)
    sync(folder.parent)


def _seconds_spent(partial: Path) -> float:
    """Seconds that earlier runs worked in ``partial``.

    A killed run cannot write down when it ended: it counts until the last file it wrote.
    """
    try:
        clock = json.loads((partial / CLOCK).read_text())
        spent, started = float(clock["seconds"]), float(clock["started_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
    written = [p.stat().st_mtime for p in partial.rglob("*") if p.is_file()]
    return spent + max(0.0, max(written) - started)


def _is_complete(partial: Path, key: str) -> bool:
    """Whether a run was killed after it had built ``partial``, before it had sealed it."""
    try:
        verify(partial, key)
    except CorruptError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
