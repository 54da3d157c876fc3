"""Device: the machine on which latencies are measured, this one or another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from latency.asked import ProfileAsked
from latency.beside import time_beside
from latency.fingerprint import Fingerprint
from latency.profile import Profile
from latency.profiler import ProfileProgress, profile_device
from latency.target import Latency, Target
from supernet.architecture import Architecture, EncoderShape


class Device(Protocol):
    """A machine that measures."""

    @property
    def identity(self) -> str:
        """A name for the origin of measurements, which are never reused for another device.

        It does not depend on what the machine says of itself. It is empty for the machine that the
        process runs on.
        """
        ...

    def fingerprint(self, target: Target) -> Fingerprint:
        """The machine and the software that matters to ``target``.

        Raises:
            NasError: the fingerprint is not known, and the machine does not answer.
        """
        ...

    def profile(self, asked: ProfileAsked, *, path: Path, progress: ProfileProgress) -> Profile:
        """Measure a profile; see :func:`latency.profiler.profile_device`.

        Args:
            path: file that holds the measurements and is continued after a crash. A device
                elsewhere has its own.

        Raises:
            NasError: it cannot be measured, or the machine does not answer.
        """
        ...

    def time(
        self,
        models: Sequence[Architecture | Path],
        target: Target,
        shape: EncoderShape,
        *,
        rounds: int,
    ) -> list[Latency]:
        """Latencies of models side by side; see :func:`latency.beside.time_beside`.

        Args:
            rounds: blocks timed of each.

        Raises:
            NasError: a model that does not load, or the machine does not answer.
        """
        ...


@dataclass(frozen=True)
class ThisMachine:
    """The machine that the process runs on."""

    identity = ""

    def fingerprint(self, target: Target) -> Fingerprint:
        """See :class:`Device`."""
        return Fingerprint.of_this_machine(target)

    def profile(self, asked: ProfileAsked, *, path: Path, progress: ProfileProgress) -> Profile:
        """See :class:`Device`."""
        return profile_device(
            asked.target,
            [asked.space],
            time_budget_s=asked.seconds,
            seed=asked.seed,
            count_disturbed=asked.count_disturbed,
            shape=asked.shape,
            path=path,
            progress=progress,
        )

    def time(
        self,
        models: Sequence[Architecture | Path],
        target: Target,
        shape: EncoderShape,
        *,
        rounds: int,
    ) -> list[Latency]:
        """See :class:`Device`."""
        return time_beside(models, target, shape, rounds=rounds)


THIS_MACHINE = ThisMachine()
