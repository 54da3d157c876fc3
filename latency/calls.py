"""What is timed: calls of a runtime that run a whole model, or copies of a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from latency.kernels import SIZES, STACKED, Kernel, kernels_of
from latency.target import Workload
from latency.terms import STREAMED, FloatArray, kernel_megabytes, traffic
from supernet.architecture import Architecture
from supernet.batch import IntArray
from supernet.errors import NasError, check_number

COPIES = 4
"""Copies of a layer's kernel in one call, so that the nearest cache cannot hold their weights."""


@dataclass(frozen=True)
class Subject:
    """A kernel or model to time.

    Args:
        what: a kernel or a whole model.
        workload: its input.
        copies: copies of the kernel in the call; 1 for a model.

    Raises:
        NasError: a count below 1, or several copies of something that a call holds once.
    """

    what: Kernel | Architecture
    workload: Workload
    copies: int = 1

    def __post_init__(self) -> None:
        check_number("batch_size", self.workload.batch_size, 1, whole=True)
        check_number("sequence_length", self.workload.sequence_length, 1, whole=True)
        check_number("copies", self.copies, 1, whole=True)
        stacked = isinstance(self.what, Kernel) and self.what.kind in STACKED
        if self.copies > 1 and not stacked:
            raise NasError(f"a call holds {self.what} once, so copies must be 1, not {self.copies}")

    @classmethod
    def kernel(cls, kernel: Kernel, workload: Workload) -> Subject:
        """``kernel`` with the number of copies that are timed in one call."""
        return cls(kernel, workload, COPIES if kernel.kind in STACKED else 1)

    def kernels(self, *, first_token_last_layer: bool) -> list[Kernel]:
        """All kernels that one call runs, the call itself included."""
        if isinstance(self.what, Architecture):
            return kernels_of(self.what, first_token_last_layer=first_token_last_layer)
        call = [] if self.what.kind == "call" else [Kernel("call", ())]
        return call + [self.what] * self.copies

    def __str__(self) -> str:
        return f"{self.what}, {self.workload}"


@dataclass(frozen=True)
class Calls:
    """What N calls hold.

    Args:
        shapes: by kind, the (U, 2 + D) distinct shapes that occur: batch size, sequence length,
            sizes.
        counts: by kind, (N, U) how many of each a call holds.
        features: (N, F) of whole models; not read of other calls.
        depth: (N,) layers of whole models, 0 where a call is none.
    """

    shapes: Mapping[str, IntArray]
    counts: Mapping[str, FloatArray]
    features: FloatArray
    depth: FloatArray

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: IntArray) -> Calls:
        """The calls at ``rows``."""
        counts = {kind: count[rows] for kind, count in self.counts.items()}
        return Calls(self.shapes, counts, self.features[rows], self.depth[rows])

    @property
    def is_model(self) -> Any:
        return self.depth > 0

    @cached_property
    def extras(self) -> FloatArray:
        """(N, 2 caches + 2) what a call costs besides its kernels, for coefficients to weigh.

        Megabytes that each cache misses, of streamed kernels and then of others; 1 for a whole
        model; its layers.
        """
        megabytes = {True: np.zeros(len(self)), False: np.zeros(len(self))}
        for kind, shapes in self.shapes.items():
            megabytes[kind in STREAMED] += self.counts[kind] @ kernel_megabytes(kind, shapes)
        assembly = np.stack([self.is_model, self.depth], axis=1)
        return np.hstack([traffic(megabytes[True], megabytes[False]), assembly])


def calls_of(subjects: Sequence[Subject], *, first_token_last_layer: bool) -> Calls:
    """The kernels and features of N subjects.

    Args:
        first_token_last_layer: see :func:`latency.kernels.lower`.
    """
    counts: dict[str, dict[tuple[int, ...], dict[int, int]]] = {}
    features = np.zeros((len(subjects), 2))
    depth = np.zeros(len(subjects))
    for row, subject in enumerate(subjects):
        for kernel in subject.kernels(first_token_last_layer=first_token_last_layer):
            shape = (*subject.workload, *kernel.sizes)
            cell = counts.setdefault(kernel.kind, {}).setdefault(shape, {})
            cell[row] = cell.get(row, 0) + 1
        if isinstance(subject.what, Architecture):
            features[row] = model_features(subject.what, subject.workload)
            depth[row] = subject.what.num_layers
    shapes, tables = {}, {}
    for kind in (kind for kind in SIZES if kind in counts):
        shapes[kind] = np.array(sorted(counts[kind]), dtype=np.int64)
        tables[kind] = np.zeros((len(subjects), len(shapes[kind])))
        for column, shape in enumerate(sorted(counts[kind])):
            for row, count in counts[kind][shape].items():
                tables[kind][row, column] = count
    return Calls(shapes, tables, features, depth)


def model_features(architecture: Architecture, workload: Workload) -> FloatArray:
    """Logarithms of the layers' weights in megabytes, and of the tokens, (2,)."""
    hidden = architecture.hidden_size
    megabytes = 4e-6 * sum(layer.weights(hidden) for layer in architecture.layers)
    logs: FloatArray = np.log([megabytes, workload.batch_size * workload.sequence_length])
    return logs
