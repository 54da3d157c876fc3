"""Profile: the measurements of one device and runtime, and their file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from latency.atomic import write_text
from latency.calls import Subject
from latency.fingerprint import Fingerprint
from latency.profile_rows import FORMAT, VERSION, subject_row
from latency.target import Latency, Target, Workload
from latency.timing import Record, Usual, usual_reference
from supernet.architecture import EncoderShape
from supernet.errors import NasError
from supernet.space import SearchSpace

Role = Literal["chosen", "drawn", "again"]
"""Why something was measured: ``chosen`` to learn from it; ``drawn`` at random from the spaces, so
that the predictor's error on it is typical; or drawn before, and built and measured ``again``."""

MOST_DISTURBED = 0.5
"""The largest accepted share of unsteady measurements."""


@dataclass(frozen=True)
class Measurement:
    """A measured kernel or model.

    Args:
        session: index of its session in the profile.
    """

    subject: Subject
    role: Role
    session: int
    record: Record

    def to_row(self) -> dict[str, Any]:
        """An entry of ``measurements``; :class:`latency.profile_file.MeasurementRow` reads it."""
        return subject_row(self.subject) | {
            "role": self.role,
            "session": self.session,
            "blocks": [
                [b.reference_ms, b.round_reference_ms, b.preemptions, list(b.samples_ms)]
                for b in self.record.blocks
            ],
        }


@dataclass(frozen=True)
class Session:
    """One process that measured.

    Args:
        began: date and time in ISO 8601, UTC.
        others_share: share of all the machine's cores that other processes used, 0 to 1.
    """

    began: str
    others_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What was measured of one device and runtime.

    Args:
        target: the device, runtime, threads and dtype of all measurements, and a workload.
        workloads: the measured grid of batch sizes and sequence lengths.
        fingerprint: the machine and its software.
        spaces: mappings (``SearchSpace.to_dict``) of the spaces whose sizes are covered.
        shape: vocabulary, positions, labels and activation of all measured models.
        seed: of the choice of what to measure.
        seconds: time spent on building and measuring.
        count_disturbed: whether measurements of a busy machine count too.
        complete: whether measuring went on to its time or target error.
        sessions: the processes that measured, in order.
        measurements: all measurements, in the order taken.
    """

    target: Target
    workloads: tuple[Workload, ...]
    fingerprint: Fingerprint
    spaces: tuple[Mapping[str, Any], ...]
    shape: EncoderShape
    seed: int
    seconds: float = 0.0
    count_disturbed: bool = False
    complete: bool = False
    sessions: tuple[Session, ...] = ()
    measurements: tuple[Measurement, ...] = ()

    @cached_property
    def usual(self) -> tuple[Usual, ...]:
        """Times of the reference on the undisturbed machine, for each session.

        They are NaN for a session without measurements.
        """
        sessions: list[list[Record]] = [[] for _ in self.sessions]
        for one in self.measurements:
            sessions[one.session].append(one.record)
        return tuple(
            usual_reference(records) if records else Usual(math.nan, math.nan)
            for records in sessions
        )

    @cached_property
    def pace_ms(self) -> float:
        """The median of the reference's usual time: the pace that predictions are made for."""
        return float(np.median([self.usual[m.session].pace_ms for m in self.measurements]))

    @cached_property
    def latencies(self) -> tuple[Latency, ...]:
        """The latency of each measurement, with ``steady_ms`` at the profile's pace."""
        found = []
        for one in self.measurements:
            usual = self.usual[one.session]
            latency = one.record.latency(usual)
            at_pace_ms = latency.steady_ms * self.pace_ms / usual.pace_ms
            found.append(replace(latency, steady_ms=at_pace_ms))
        return tuple(found)

    @cached_property
    def steady(self) -> tuple[bool, ...]:
        """For each measurement, whether the machine was quiet enough for it to count."""
        return tuple(
            self.count_disturbed or m.record.is_steady(self.usual[m.session])
            for m in self.measurements
        )

    @cached_property
    def counted(self) -> tuple[tuple[Measurement, Latency], ...]:
        """The steady measurements, in the order taken, with their latencies."""
        every = zip(self.measurements, self.latencies, self.steady, strict=True)
        return tuple((one, latency) for one, latency, steady in every if steady)

    @property
    def unsteady_share(self) -> float:
        """The share of measurements that do not count, 0 to 1."""
        return 1 - sum(self.steady) / max(1, len(self.steady))

    def warnings(self) -> list[str]:
        """Lines for people about what went wrong while measuring; empty if nothing did."""
        found = self.fingerprint.warnings(self.target)
        others = max((session.others_share for session in self.sessions), default=0.0)
        if self.unsteady_share > 0.05:
            found.append(
                f"disturbed: {self.unsteady_share:.0%} of the measurements were not steady enough "
                f"to count, and other processes used {others:.0%} of the machine; measure again "
                "while nothing else runs"
            )
        for number in range(len(self.sessions)):
            slowdown = self._slowdown(number)
            if slowdown > 1.1:
                found.append(
                    f"throttled: the reference ended {slowdown - 1:.0%} slower than it began"
                )
        return found

    def _slowdown(self, session: int) -> float:
        """The reference's time in the last fifth of a session, over that in the first fifth."""
        records = [m.record for m in self.measurements if m.session == session]
        fifth = len(records) // 5
        if fifth < 3:
            return 1.0
        first, last = usual_reference(records[:fifth]), usual_reference(records[-fifth:])
        return last.pace_ms / first.pace_ms

    def check_steady(self) -> None:
        """Refuse a profile of a busy machine.

        Raises:
            NasError: most measurements are unsteady.
        """
        if self.unsteady_share > MOST_DISTURBED:
            raise NasError(
                f"the profile was disturbed: {self.unsteady_share:.0%} of its measurements are "
                "not steady; measure again, into another file, while nothing else runs"
            )

    def check_serves(self, target: Target) -> None:
        """Refuse a target that this profile holds no measurements for.

        Raises:
            NasError: another device, runtime, dtype or number of threads, or a batch size or
                sequence length outside those measured.
        """
        for name in ("device", "runtime", "dtype", "threads"):
            ours, theirs = getattr(self.target, name), getattr(target, name)
            if ours != theirs:
                raise NasError(
                    f"the profile is of {name} {ours}, the target asks for {theirs}: "
                    "profile the device for that target"
                )
        for one, _ in target.workloads():
            size, length = one.workload
            below = any(w[0] <= size and w[1] <= length for w in self.workloads)
            above = any(w[0] >= size and w[1] >= length for w in self.workloads)
            if not (below and above):
                raise NasError(
                    f"the profile is of {'; '.join(map(str, self.workloads))} and what lies "
                    f"between, the target asks for {one.workload}: profile the device for that too"
                )

    def covers(self, target: Target, space: SearchSpace, shape: EncoderShape) -> bool:
        """Whether the profile predicts all models of ``space`` on ``target`` as well as it states.

        Of a model's shape, only the activation matters for time.
        """
        try:
            self.check_serves(target)
        except NasError:
            return False
        return self.shape.hidden_act == shape.hidden_act and any(
            SearchSpace.from_dict(one).includes(space) for one in self.spaces
        )

    def check_continues(self, other: Profile) -> None:
        """Refuse to put the measurements of ``other`` into one profile with these.

        Raises:
            NasError: another device, runtime, software or shape of models.
        """
        self.check_serves(other.target.of(self.workloads[0]))
        if differences := self.fingerprint.differences(other.fingerprint):
            raise NasError(
                f"the profile was measured on another machine or software: {'; '.join(differences)}"
            )
        if self.shape != other.shape:
            raise NasError(f"the profile is of models of shape {self.shape}, not {other.shape}")

    def merged(self, other: Profile) -> Self:
        """A profile with all measurements of two profiles of one device; each keeps its own pace.

        Raises:
            NasError: they are not of one device, runtime, software and shape of models, one is not
                complete, or both hold the same session.
        """
        self.check_continues(other)
        if not (self.complete and other.complete):
            raise NasError("a profile that is not complete cannot be merged; finish it first")
        ours = {one.record for one in self.measurements}
        if any(one.record in ours for one in other.measurements):
            raise NasError("the two profiles hold the same measurements")
        shift = len(self.sessions)
        moved = tuple(replace(m, session=m.session + shift) for m in other.measurements)
        return replace(
            self,
            workloads=tuple(dict.fromkeys(self.workloads + other.workloads)),
            spaces=self.spaces + tuple(s for s in other.spaces if s not in self.spaces),
            seconds=self.seconds + other.seconds,
            complete=self.complete and other.complete,
            sessions=self.sessions + other.sessions,
            measurements=self.measurements + moved,
        )

    def save(self, path: Path) -> None:
        """Write the file whole or not at all.

        Raises:
            NasError: the file cannot be written.
        """
        try:
            write_text(path, json.dumps(self.to_dict(), separators=(",", ":")))
        except OSError as error:
            raise NasError(f"profile {path} cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that :meth:`save` wrote.

        Raises:
            NasError: no such file, not JSON, or not a sound profile.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise NasError(f"profile {path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise NasError(f"profile {path} is not valid JSON: {error}") from error
        try:
            return cls.from_dict(data)
        except NasError as error:
            raise NasError(f"{path}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "target": self.target.to_dict(),
            "workloads": [list(workload) for workload in self.workloads],
            "fingerprint": self.fingerprint.to_dict(),
            "spaces": [dict(space) for space in self.spaces],
            "shape": asdict(self.shape),
            "seed": self.seed,
            "seconds": self.seconds,
            "count_disturbed": self.count_disturbed,
            "complete": self.complete,
            "sessions": [asdict(session) for session in self.sessions],
            "measurements": [one.to_row() for one in self.measurements],
        }

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            NasError: not a profile, of another version, or damaged; it names the entry.
        """
        from latency.profile_file import ProfileFile  # pydantic: a device that measures may lack it

        file = ProfileFile.read(data)
        return cls(
            target=Target.from_dict(file.target),
            workloads=file.grid(),
            fingerprint=Fingerprint.from_dict(file.fingerprint.model_dump()),
            spaces=tuple(file.spaces),
            shape=EncoderShape(**file.shape.model_dump()),
            seed=file.seed,
            seconds=file.seconds,
            count_disturbed=file.count_disturbed,
            complete=file.complete,
            sessions=tuple(Session(**session.model_dump()) for session in file.sessions),
            measurements=tuple(
                Measurement(row.subject(), row.role, row.session, row.record())
                for row in file.measurements
            ),
        )
