"""Fingerprint: the machine and the software that a measurement belongs to."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from latency.target import Target
from supernet.errors import NasError

_PACKAGES = {
    "onnxruntime": ("onnxruntime",),
    "torch-eager": ("torch", "transformers"),
    "torch-compile": ("torch", "transformers"),
    "torch-cuda-graphs": ("torch", "transformers"),
}
"""For each runtime, the packages whose versions matter to a latency."""

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True)
class Fingerprint:
    """A machine and the versions of its software.

    Args:
        cpu: the processor's model name.
        cores: logical cores that this process may use.
        memory_gib: memory of the machine, rounded; 0 if not known.
        governor: policy of the clock speed, such as ``"performance"``; "" if not known.
        gpu: name of the CUDA device if the target uses it, else "".
        machine: instruction set, such as ``"x86_64"``.
        system: operating system and its release.
        versions: of Python and of the runtime's packages.
    """

    cpu: str
    cores: int
    memory_gib: int
    governor: str
    gpu: str
    machine: str
    system: str
    versions: Mapping[str, str]

    @classmethod
    def of_this_machine(cls, target: Target) -> Self:
        """This machine, with the software that matters to ``target``."""
        return cls(
            cpu=_cpu_model(),
            cores=len(usable_cores()),
            memory_gib=_memory_gib(),
            governor=_first_line(_GOVERNOR),
            gpu=_gpu_name() if target.device == "cuda" else "",
            machine=platform.machine(),
            system=f"{platform.system()} {platform.release()}",
            versions={
                "python": platform.python_version(),
                **_package_versions(_PACKAGES[target.runtime]),
            },
        )

    def differences(self, other: Fingerprint) -> list[str]:
        """The fields that differ, such as ``"governor: powersave, not performance"``."""
        return [
            f"{field.name}: {_shown(getattr(self, field.name))}, "
            f"not {_shown(getattr(other, field.name))}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]

    def warnings(self, target: Target) -> list[str]:
        """Reasons why latencies of ``target`` on this machine would be of little use, if any."""
        if target.device != "cpu" or target.threads <= self.cores:
            return []
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return [
            f"crowded: {target.threads} threads share {cores}, so they wait for one another, and "
            f"latencies are mostly that; give the target no more than {self.cores}"
        ]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            NasError: a key missing or unknown.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise NasError(f"fingerprint: {error}") from error

    def __str__(self) -> str:
        gpu = f"{self.gpu}, " if self.gpu else ""
        return f"{gpu}{self.cpu}, {self.cores} cores, {self.memory_gib} GiB, {self.system}"


def usable_cores() -> list[int]:
    """The logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpu_model() -> str:
    """The model name Linux reports, else what :mod:`platform` knows."""
    lines = _text(_CPUINFO).splitlines()
    for key in ("model name", "Model", "Hardware"):  # the latter two on ARM boards
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _memory_gib() -> int:
    for line in _text(_MEMINFO).splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return round(int(value.split()[0]) / 2**20)
    return 0


def _gpu_name() -> str:
    """The first CUDA device, as PyTorch names it."""
    try:
        import torch
    except ModuleNotFoundError:
        return "unknown"
    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else "none"


def _package_versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _text(path: Path) -> str:
    """Content of a file of the operating system; empty if it does not exist."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _first_line(path: Path) -> str:
    return _text(path).partition("\n")[0].strip()


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {number}" for name, number in sorted(value.items()))
    return str(value) or "unknown"
