"""An artifact on storage that machines share: brought from there, or given to it.

    supernet/3f0c9a51d2b7e684/manifest.json            written last: with it, the artifact is whole
    supernet/3f0c9a51d2b7e684/81d0b2a54c96e7f3/…       the files that this manifest speaks of

The files lie under their manifest's checksum. So two machines that built the same artifact at once
never write over each other's files: whichever manifest stands there, its files stand with it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from nas.store.manifest import CLOCK, MANIFEST, SCRATCH, CorruptError, parse_manifest, verify
from nas.store.storage import Storage, StorageError


class SharedArtifact:
    """One artifact's place on shared storage.

    Args:
        stage, key: of the artifact.
        warn: receives one line for a damaged artifact there, and for an upload that fails.
    """

    def __init__(self, storage: Storage, stage: str, key: str, warn: Callable[[str], None]) -> None:
        self._storage, self._key, self._warn = storage, key, warn
        self._place = f"{stage}/{key[:16]}"
        self._damaged = False

    def bring(self, folder: Path) -> bool:
        """Have ``folder`` hold what the storage holds, if that is whole.

        Args:
            folder: a sealed artifact, or nothing yet. One of other content makes way, so that all
                machines go on from the same weights.

        Returns:
            whether the storage has it whole.

        Raises:
            StorageError: the storage does not answer.
        """
        content = self._storage.read(f"{self._place}/{MANIFEST}")
        if content is None:
            return False
        if (folder / MANIFEST).is_file() and (folder / MANIFEST).read_bytes() == content:
            return True
        fetched = folder.with_name(f"{folder.name}.fetched")
        shutil.rmtree(fetched, ignore_errors=True)
        try:
            self._download(content, fetched)
            verify(fetched, self._key)
        except CorruptError as error:
            self._damaged = True
            self._warn(
                f"artifact {self._place} in {self._storage.url} is damaged ({error}): not used"
            )
            shutil.rmtree(fetched, ignore_errors=True)
            return False
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(fetched, folder)
        return True

    def give(self, folder: Path) -> None:
        """Upload a sealed artifact, after :meth:`bring` did not find it.

        Where another machine has meanwhile given one of the same key, ``folder`` becomes that one.
        """
        content = (folder / MANIFEST).read_bytes()
        manifest = parse_manifest(content, self._key)
        manifest_name = f"{self._place}/{MANIFEST}"
        try:
            for name in manifest["files"]:
                self._storage.upload(folder / name, f"{self._files(manifest)}/{name}")
            if self._damaged:
                self._storage.write(manifest_name, content)
            elif not self._storage.create(manifest_name, content):
                self.bring(folder)
        except StorageError as error:
            self._warn(
                f"artifact {self._place} is on this machine alone until the next run ({error})"
            )

    def _download(self, content: bytes, folder: Path) -> None:
        manifest = parse_manifest(content, self._key)
        for name in _checked_names(manifest):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if not self._storage.download(f"{self._files(manifest)}/{name}", folder / name):
                raise CorruptError(f"{name} is missing")
        folder.mkdir(exist_ok=True)
        (folder / MANIFEST).write_bytes(content)

    def _files(self, manifest: dict[str, Any]) -> str:
        return f"{self._place}/{manifest['sha256'][:16]}"


def _checked_names(manifest: dict[str, Any]) -> list[str]:
    """The files of a manifest that anyone may have written, whose checksum proves no good will.

    Raises:
        CorruptError: one would lie outside the artifact, or the manifest is not of our making.
    """
    files = manifest.get("files")
    if not isinstance(manifest.get("seconds"), int | float) or not isinstance(files, dict):
        raise CorruptError(f"{MANIFEST} is of another kind")
    folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents}
    for name, expected in files.items():
        path = PurePosixPath(name)
        if (
            path.is_absolute()
            or path.as_posix() != name
            or path.parts[:1] in ((), (MANIFEST,), (CLOCK,), (SCRATCH,))
            or ".." in path.parts
            or "\\" in name
            or not name.isprintable()
            or name in folders
        ):
            raise CorruptError(f"{name!r} is no file within an artifact")
        if not isinstance(expected, dict) or not {"bytes", "sha256"} <= expected.keys():
            raise CorruptError(f"{MANIFEST} says too little of {name!r}")
    return list(files)
