"""Scores on storage that machines share: many small objects that together are one file.

Object stores cannot append, so each flush of a score cache becomes an object of its own:

    scores/<16 hex digits of supernet and data>/01790000000123456789-9f86d081884c7d65.jsonl

The objects in the order of their names are the file. Names begin with the time, in nanoseconds, or
with the number after the last one that their writer had read, where its clock is behind; they end
by chance, so that two writers never meet. Every machine that sees the same objects therefore reads
the same file, whoever wrote what when, and what followed from a record stands below it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from latency.atomic import replacing
from nas.search.score_cache import ScoreCache
from nas.store.storage import Storage, StorageError
from nas.store.workspace import Workspace

_NAME = re.compile(r"(?P<moment>\d{20})-[0-9a-f]{16}\.jsonl")


def open_scores(workspace: Workspace, *, supernet: str, data: str) -> ScoreCache:
    """The scores of one supernet on one data set, those of other machines among them.

    Args:
        supernet, data: as for :class:`nas.search.score_cache.ScoreCache`.

    Raises:
        NasError: the file of scores cannot be read, or shared storage does not answer.
    """
    if workspace.storage is None:
        return ScoreCache(
            workspace.root / "scores.jsonl", supernet=supernet, data=data, warn=workspace.warn
        )
    context = hashlib.sha256(json.dumps([supernet, data]).encode()).hexdigest()[:16]
    path = workspace.root / "scores" / f"{context}.jsonl"
    shared = SharedScores(workspace.storage, f"scores/{context}", workspace.warn)
    shared.merge(path)
    return ScoreCache(
        path, supernet=supernet, data=data, warn=workspace.warn, publish=shared.publish
    )


class SharedScores:
    """The records of one supernet on one data set. What they say is the score cache's business.

    Args:
        storage, folder: where the objects lie.
        warn: receives one line when records cannot be published for now.
    """

    def __init__(self, storage: Storage, folder: str, warn: Callable[[str], None]) -> None:
        self._storage, self._folder, self._warn = storage, folder, warn
        self._last_moment = 0
        self._pending: list[bytes] = []

    def merge(self, path: Path) -> None:
        """Have the storage hold every record of a local file, and the file all of the storage.

        Args:
            path: in the storage's order from then on; created when missing.

        Raises:
            StorageError: the storage does not answer; the file is as it was.
        """
        names = [name for name in self._storage.names(self._folder) if _NAME.fullmatch(name)]
        if names:
            self._last_moment = int(names[-1].partition("-")[0])
        contents = self._storage.read_all(self._folder, names)
        lines = dict.fromkeys(line for name in names for line in _whole_lines(contents[name]))
        own = _whole_lines(path.read_bytes()) if path.exists() else []
        missing = [line for line in own if line not in lines]
        self._write([line for line in missing if _is_record(line)])
        with replacing(path) as merged:
            merged.write_bytes(b"".join([*lines, *missing]))

    def publish(self, lines: Sequence[bytes]) -> None:
        """Add records. Storage that does not answer costs a warning: they go with the next."""
        was_behind = bool(self._pending)
        self._pending += lines
        try:
            self._write(self._pending)
        except StorageError as error:
            if not was_behind:
                self._warn(f"scores are on this machine alone for now ({error})")
        else:
            self._pending.clear()

    def _write(self, lines: Sequence[bytes]) -> None:
        if lines:
            self._last_moment = max(time.time_ns(), self._last_moment + 1)
            name = f"{self._last_moment:020d}-{secrets.token_hex(8)}.jsonl"
            self._storage.write(f"{self._folder}/{name}", b"".join(lines))


def _whole_lines(content: bytes) -> list[bytes]:
    """Lines with their ends; a last one that a kill cut short is no line."""
    return [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
