"""The pool: every architecture of a space, or a large sample of it, with its predicted latency."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.constraints import FloatArray, Limits, parameters, unmet
from supernet.architecture import Architecture, EncoderShape
from supernet.batch import ArchitectureBatch
from supernet.space import SearchSpace

PredictLatency = Callable[[ArchitectureBatch], FloatArray]
"""From N architectures to their latencies in milliseconds, (N,), on one target."""

_BLOCK = 65536
_SAMPLES = 4096
_WALKS = 24
_WALKERS = 64
_MUTANTS = 4


@dataclass(frozen=True)
class Region:
    """Where a search looks: within the limits, and not far below them.

    Accuracy grows with what a model may use, so the best architecture lies near a limit.

    Args:
        predict_latency: for the target that the limits speak of.
        limits: what an architecture must keep to.
        shape: of the models that are counted.
        least_usage: the share of some limit from which on an architecture is "near".
    """

    predict_latency: PredictLatency
    limits: Limits
    shape: EncoderShape = EncoderShape()
    least_usage: float = 0.0

    def measure(self, batch: ArchitectureBatch) -> tuple[FloatArray, FloatArray]:
        """Predicted latency and usage of the limits (see :meth:`Limits.usage`), each (N,)."""
        latency_ms = np.asarray(self.predict_latency(batch), dtype=float)
        return latency_ms, self.limits.usage(latency_ms, parameters(batch, self.shape))

    def usage(self, architectures: Collection[Architecture]) -> FloatArray:
        return self.measure(ArchitectureBatch.of(list(architectures)))[1]

    def holds(self, architectures: Collection[Architecture]) -> NDArray[np.bool_]:
        """Which architectures lie in the region, (N,)."""
        usage = self.usage(architectures)
        return (usage <= 1) & (usage >= self.least_usage)


@dataclass(frozen=True)
class Pool:
    """Distinct architectures to choose from.

    Uniform spaces are kept as one layer and a depth, so that millions fit in tens of megabytes.

    Args:
        sizes: (N, 2) hidden size and depth.
        layers: (4, N, K) heads, qkv and intermediate sizes, compression; K is 1 where layers are
            equal, else the largest depth.
        latency_ms: (N,) predicted.
        usage: (N,) of the limits.
        complete: whether it is the whole space.
    """

    sizes: NDArray[np.int32]
    layers: NDArray[np.int32]
    latency_ms: FloatArray
    usage: FloatArray
    complete: bool

    def __len__(self) -> int:
        return len(self.latency_ms)

    def batch(self, rows: NDArray[np.intp]) -> ArchitectureBatch:
        hidden, depth = self.sizes[rows].astype(np.int64).T  # (N,), (N,)
        present = np.arange(depth.max(initial=1)) < depth[:, None]  # (N, L)
        chosen = self.layers[:, rows, : present.shape[1]].astype(np.int64)
        return ArchitectureBatch(hidden, depth, *(chosen * present))

    def blocks(self, rows: NDArray[np.intp]) -> Iterator[ArchitectureBatch]:
        """The architectures at ``rows`` in blocks that fit in memory."""
        for start in range(0, len(rows), _BLOCK):
            yield self.batch(rows[start : start + _BLOCK])

    def near(self, least_usage: float) -> NDArray[np.intp]:
        """Rows within the limits that use at least this share of one."""
        return np.flatnonzero((self.usage <= 1) & (self.usage >= least_usage))

    def draw(
        self,
        rows: NDArray[np.intp],
        count: int,
        rng: np.random.Generator,
        exclude: Callable[[Architecture], bool],
    ) -> list[Architecture]:
        """Up to ``count`` of ``rows`` at random, without those to exclude."""
        return self.first(rng.permutation(rows), count, exclude)

    def first(
        self, rows: NDArray[np.intp], count: int, exclude: Callable[[Architecture], bool]
    ) -> list[Architecture]:
        """The first ``count`` of ``rows``, in their order, without those to exclude."""
        found: list[Architecture] = []
        for start in range(0, len(rows), step := max(64, 2 * count)):
            for architecture in self.batch(rows[start : start + step]):
                if len(found) == count:
                    return found
                if not exclude(architecture):
                    found.append(architecture)
        return found

    def spread(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Distinct architectures at even ratios of latency, from the fastest to the slowest."""
        order = np.argsort(self.latency_ms, kind="stable")
        ascending = self.latency_ms[order]
        targets = np.geomspace(ascending[0], ascending[-1], count)
        window = (ascending[-1] / ascending[0]) ** (0.25 / max(1, count - 1))
        low, high = np.searchsorted(ascending, [targets / window, targets * window])
        positions = low + (rng.random(count) * np.maximum(high - low, 1)).astype(int)
        positions[:1], positions[-1:] = 0, len(order) - 1  # exactly, whatever the rounding
        return list(dict.fromkeys(self.batch(order[positions.clip(0, len(order) - 1)])))


def build_pool(
    space: SearchSpace, region: Region, *, max_enumerated: int, rng: np.random.Generator
) -> Pool:
    """Predict a space whole, or a sample of it that reaches the limits.

    Raises:
        NasError: nothing in it keeps to the limits; the message says what would be feasible.
    """
    if space.size <= max_enumerated:
        pool = _gather(space.enumerate(_BLOCK), region, space.uniform, complete=True)
    else:
        sample = _sample_towards_limits(space, region, rng)
        pool = _gather([ArchitectureBatch.of(sample)], region, space.uniform, complete=False)
    if not (pool.usage <= 1).any():
        counts = [parameters(block, region.shape) for block in pool.blocks(np.arange(len(pool)))]
        raise unmet(region.limits, pool.latency_ms, np.concatenate(counts))
    return pool


def _gather(
    blocks: Iterable[ArchitectureBatch], region: Region, uniform: bool, *, complete: bool
) -> Pool:
    columns: list[tuple[NDArray[np.int32], NDArray[np.int32], FloatArray, FloatArray]] = []
    for block in blocks:
        sizes = np.stack([block.hidden_size, block.num_layers], axis=1)
        layers = np.stack(
            [block.num_heads, block.qkv_size, block.intermediate_size, block.compression]
        )
        kept = layers[:, :, :1] if uniform else layers
        columns.append((sizes.astype(np.int32), kept.astype(np.int32), *region.measure(block)))
    sizes_, layers_, latencies, usages = zip(*columns, strict=True)
    depth = max(part.shape[2] for part in layers_)
    padded = [np.pad(p, ((0, 0), (0, 0), (0, depth - p.shape[2]))) for p in layers_]
    return Pool(
        np.concatenate(sizes_),
        np.concatenate(padded, axis=1),
        np.concatenate(latencies),
        np.concatenate(usages),
        complete,
    )


def _sample_towards_limits(
    space: SearchSpace, region: Region, rng: np.random.Generator
) -> list[Architecture]:
    """A random sample, and walks from those members that are nearest to the limits.

    A tight budget holds a vanishing share of a large space; mutants of the nearest reach it.
    """
    found = dict.fromkeys([space.smallest, space.largest])
    found |= dict.fromkeys(space.sample(rng) for _ in range(_SAMPLES))
    members, usage = list(found), region.usage(found)
    for _ in range(_WALKS):
        nearest = np.argsort(np.abs(np.log(usage)), kind="stable")[:_WALKERS]
        mutants = (space.mutate(members[row], rng) for row in nearest for _ in range(_MUTANTS))
        fresh = [mutant for mutant in dict.fromkeys(mutants) if mutant not in found]
        if fresh:
            found |= dict.fromkeys(fresh)
            members += fresh
            usage = np.concatenate([usage, region.usage(fresh)])
    return members
