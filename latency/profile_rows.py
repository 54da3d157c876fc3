"""A profile's measurements as plain data, for a device that has no pydantic to check it with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latency.calls import Subject
from latency.kernels import Kernel
from latency.target import Workload
from supernet.architecture import Architecture

FORMAT = "tailorbert-latency-profile"
VERSION = 3


def subject_row(subject: Subject) -> dict[str, Any]:
    """What was timed, and its input."""
    row: dict[str, Any] = subject.workload._asdict()
    if isinstance(subject.what, Architecture):
        return row | {"architecture": subject.what.to_dict()}
    kernel = {"kernel": subject.what.kind, "sizes": list(subject.what.sizes)}
    return row | kernel | {"copies": subject.copies}


def subject_of(row: Mapping[str, Any]) -> Subject:
    """The inverse of :func:`subject_row`; further entries are ignored.

    Raises:
        NasError: sizes that are not accepted.
    """
    workload = Workload(row["batch_size"], row["sequence_length"])
    if row.get("architecture") is not None:
        architecture = Architecture.from_dict(row["architecture"])
        return Subject(architecture, workload, row.get("copies", 1))
    return Subject(Kernel(row["kernel"], tuple(row["sizes"])), workload, row["copies"])
