"""Which machine and which software a measurement belongs to."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from supernet.errors import NasError

_PACKAGES = ("numpy", "onnxruntime", "torch", "transformers")
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Fingerprint:
    """A machine and the versions of what runs on it.

    Args:
        cpu: the processor's model name.
        cores: logical cores that this process may use.
        machine: instruction set, such as ``"x86_64"``.
        system: operating system and its release.
        versions: Python's version and those of the packages found.
    """

    cpu: str
    cores: int
    machine: str
    system: str
    versions: Mapping[str, str]

    @classmethod
    def of_this_machine(cls) -> Self:
        return cls(
            cpu=_cpu_model(),
            cores=_usable_cores(),
            machine=platform.machine(),
            system=f"{platform.system()} {platform.release()}",
            versions={"python": platform.python_version(), **_package_versions()},
        )

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
        return f"{self.cpu}, {self.cores} cores, {self.system}"


def _cpu_model() -> str:
    """The model name Linux reports, else what :mod:`platform` knows."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    for key in ("model name", "Model", "Hardware"):  # the latter two on ARM boards
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _package_versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
