"""Scores of evaluated architectures: an append-only file that outlives any kill.

Each line is one JSON record, written by a single append and synced: a score, the reason why an
architecture could not be scored, or the mark that a search began. A search may therefore be
repeated as it was: what it knew at its beginning is what stands above its mark, however much was
scored since.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from supernet.architecture import Architecture
from supernet.errors import NasError


class ScoreCache:
    """The scores of one supernet on one data set.

    Args:
        path: a file shared by any number of supernets and data sets; created when missing.
        supernet: key of the supernet whose inherited weights were scored.
        data: what they were scored on, and by: the data's digest and the metric.
        warn: receives one line for each unreadable record; the log by default.
        publish: receives the lines of each append, once they are on the disk.

    Raises:
        NasError: ``path`` cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        supernet: str,
        data: str,
        warn: Callable[[str], None] = logging.getLogger(__name__).warning,
        publish: Callable[[Sequence[bytes]], None] = lambda _: None,
    ) -> None:
        self.path = Path(path)
        self._publish = publish
        self._context = {"supernet": supernet, "data": data}
        self._scores: dict[Architecture, float] = {}
        self._failed: dict[Architecture, str] = {}
        self._known_at: dict[str, int] = {}
        """For each search, how many scores were known when it began."""
        for number, record in self._read(warn):
            try:
                self._learn(record)
            except (NasError, KeyError, TypeError, ValueError) as error:
                warn(f"{self.path} line {number} is not a record ({error}): left out")

    def __len__(self) -> int:
        return len(self._scores)

    def __contains__(self, architecture: Architecture) -> bool:
        return architecture in self._scores

    def __getitem__(self, architecture: Architecture) -> float:
        return self._scores[architecture]

    def begin(self, search: str) -> dict[Architecture, float]:
        """The scores known when ``search`` began; the first call marks the place.

        They come in an order of their own: that of the file hangs on which worker was the faster.
        """
        if search not in self._known_at:
            self._append([{"search": search}])
        known = list(self._scores.items())[: self._known_at[search]]
        return dict(sorted(known, key=lambda item: item[0].to_json()))

    def failure(self, architecture: Architecture) -> str | None:
        """Why an architecture could not be scored, if it could not."""
        return self._failed.get(architecture)

    def exclude(self, architecture: Architecture, reason: str) -> None:
        """Append that an architecture could not be scored."""
        self._append([{"architecture": architecture.to_dict(), "failed": reason}])

    def add(self, architectures: Sequence[Architecture], scores: Sequence[float]) -> None:
        """Append scores; on return they are on the disk.

        Raises:
            NasError: a score that is not a finite number.
        """
        for architecture, score in zip(architectures, scores, strict=True):
            if not math.isfinite(score):
                raise NasError(f"the score of {architecture} must be finite, not {score}")
        self._append(
            [
                {"architecture": architecture.to_dict(), "score": float(score)}
                for architecture, score in zip(architectures, scores, strict=True)
                if architecture not in self._scores
            ]
        )

    def _read(self, warn: Callable[[str], None]) -> list[tuple[int, dict[str, Any]]]:
        """The records of this context; a last line that a kill cut short is cut off the file."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise NasError(f"score cache {self.path} cannot be read: {error.strerror}") from error
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self.path, whole)
        records = []
        for number, line in enumerate(content[:whole].split(b"\n")[:-1], start=1):
            try:
                record = json.loads(line)
                if self._context.items() <= record.items():
                    records.append((number, record))
            except (ValueError, AttributeError):
                warn(f"{self.path} line {number} is not a record: left out")
        return records

    def _learn(self, record: Mapping[str, Any]) -> None:
        if "search" in record:
            self._known_at.setdefault(str(record["search"]), len(self._scores))
        elif "failed" in record:
            architecture = Architecture.from_dict(record["architecture"])
            self._failed.setdefault(architecture, str(record["failed"]))
        else:
            score = float(record["score"])
            if not math.isfinite(score):
                raise ValueError(f"score {score}")
            self._scores.setdefault(Architecture.from_dict(record["architecture"]), score)

    def _append(self, records: list[dict[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{json.dumps(self._context | record)}\n".encode() for record in records]
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            for record, line in zip(records, lines, strict=True):
                _write_whole(descriptor, line)
                self._learn(record)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._publish(lines)


def _write_whole(descriptor: int, line: bytes) -> None:
    """One append; where the disk takes only part of it, the line is taken back.

    Raises:
        OSError: the disk is full.
    """
    end = os.fstat(descriptor).st_size
    written = 0
    try:
        while written < len(line):
            written += os.write(descriptor, line[written:])
    except OSError:
        with suppress(OSError):  # what matters to the caller is why the write failed
            os.ftruncate(descriptor, end)
        raise
