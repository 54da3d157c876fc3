"""Profile: the measured kernels and models of one target, as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from latency.atomic import write_text
from latency.fingerprint import Fingerprint
from latency.kernels import Kernel
from latency.target import Latency, Target
from latency.timing import Block, Record, usual_reference_ms
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError

FORMAT = "tailorbert-latency-profile"
VERSION = 2


@dataclass(frozen=True)
class KernelRecord:
    """``copies`` of a kernel, run in one call, as measured."""

    kernel: Kernel
    copies: int
    record: Record


@dataclass(frozen=True)
class ModelRecord:
    """A whole model as measured."""

    architecture: Architecture
    record: Record


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What was measured of one target.

    Args:
        target: what it holds for.
        fingerprint: the machine and software it was measured on.
        space: the space's mapping (``SearchSpace.to_dict``), whose sizes are covered.
        shape: what all measured models have besides what is searched.
        seed: of the choice of what to measure.
        time_budget_s: the time that every record had its share of.
        kernels, models: everything measured, in the order taken.
        complete: whether all that was planned is measured.
    """

    target: Target
    fingerprint: Fingerprint
    space: Mapping[str, Any]
    shape: EncoderShape
    seed: int
    time_budget_s: float
    kernels: tuple[KernelRecord, ...] = ()
    models: tuple[ModelRecord, ...] = ()
    complete: bool = False

    def usual_reference_ms(self) -> float:
        """The reference kernel's time on the undisturbed machine, over the whole profile."""
        records = [entry.record for entry in self.kernels]
        return usual_reference_ms(records + [entry.record for entry in self.models])

    def kernel_latencies(self) -> list[Latency]:
        """One a kernel record, drift divided out over the whole profile."""
        usual_ms = self.usual_reference_ms()
        return [entry.record.latency(usual_ms) for entry in self.kernels]

    def model_latencies(self) -> list[Latency]:
        """One a model record, likewise."""
        usual_ms = self.usual_reference_ms()
        return [entry.record.latency(usual_ms) for entry in self.models]

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "target": self.target.to_dict(),
            "fingerprint": self.fingerprint.to_dict(),
            "space": dict(self.space),
            "shape": asdict(self.shape),
            "seed": self.seed,
            "time_budget_s": self.time_budget_s,
            "complete": self.complete,
            "kernels": [
                {
                    "kind": entry.kernel.kind,
                    "sizes": list(entry.kernel.sizes),
                    "copies": entry.copies,
                    "blocks": _blocks_to_lists(entry.record),
                }
                for entry in self.kernels
            ],
            "models": [
                {
                    "architecture": entry.architecture.to_dict(),
                    "blocks": _blocks_to_lists(entry.record),
                }
                for entry in self.models
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            NasError: not a profile, of another version, or damaged.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise NasError("not a latency profile")
        if data.get("version") != VERSION:
            raise NasError(
                f"latency profile of version {data.get('version')!r}, accepted is {VERSION}: "
                "measure the device again, into another file"
            )
        try:
            return cls(
                target=Target.from_dict(data["target"]),
                fingerprint=Fingerprint.from_dict(data["fingerprint"]),
                space=data["space"],
                shape=EncoderShape(**data["shape"]),
                seed=data["seed"],
                time_budget_s=float(data["time_budget_s"]),
                complete=data["complete"],
                kernels=tuple(
                    KernelRecord(
                        Kernel(entry["kind"], tuple(entry["sizes"])),
                        entry["copies"],
                        _record_from_lists(entry["blocks"]),
                    )
                    for entry in data["kernels"]
                ),
                models=tuple(
                    ModelRecord(
                        Architecture.from_dict(entry["architecture"]),
                        _record_from_lists(entry["blocks"]),
                    )
                    for entry in data["models"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NasError(f"latency profile is damaged: {error!r}") from error

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
            data = json.loads(path.read_text())
        except OSError as error:
            raise NasError(f"profile {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise NasError(f"profile {path} is not valid JSON: {error}") from error
        try:
            return cls.from_dict(data)
        except NasError as error:
            raise NasError(f"{path}: {error}") from error

    def with_records(
        self, kernels: tuple[KernelRecord, ...], models: tuple[ModelRecord, ...], complete: bool
    ) -> Self:
        """This profile with further records."""
        return replace(
            self,
            kernels=self.kernels + kernels,
            models=self.models + models,
            complete=complete,
        )


def _blocks_to_lists(record: Record) -> list[list[Any]]:
    """For each block: reference, the round's reference, preemptions, samples; in milliseconds."""
    return [
        [block.reference_ms, block.round_reference_ms, block.preemptions, list(block.samples_ms)]
        for block in record.blocks
    ]


def _record_from_lists(blocks: list[list[Any]]) -> Record:
    if not blocks:
        raise NasError("latency profile is damaged: a record without blocks")
    return Record(
        tuple(
            Block(tuple(samples), reference, drift, preemptions)
            for reference, drift, preemptions, samples in blocks
        )
    )
