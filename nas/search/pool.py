"""The pool: every architecture of a space, or a large sample of it, with its predicted latency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from nas.search.constraints import FloatArray, parameters, unmet
from nas.search.goals import Goals
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.space import SearchSpace

_BLOCK = 65536
_SAMPLES = 4096
_WALKS = 24
_WALKERS = 64
_MUTANTS = 4
_NEAR = 0.9
"""What uses this share of a limit, of what the most demanding of its depth uses, is near it."""


@dataclass(frozen=True)
class Pool:
    """Distinct architectures to choose from.

    Uniform spaces are kept as one layer and a depth, so that millions fit in tens of megabytes.

    Args:
        sizes: (N, 2) hidden size and depth.
        layers: (4, N, K) heads, qkv and intermediate sizes, compression; K is 1 where layers are
            equal, else the largest depth.
        latency_ms: (N,) predicted, on the first goal's target.
        usage: (G, N) of each goal's limits.
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

    def near_limits(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Distinct architectures that use nearly all that a goal allows, of all depths in turn.

        A depth that comes near no limit, as the slowest of one layer does not, is last in turn.
        """
        queues = []
        for usage in self.usage:
            for depth in np.unique(self.sizes[:, 1]):
                rows = np.flatnonzero((usage <= 1) & (self.sizes[:, 1] == depth))
                if len(rows):
                    most = usage[rows].max()
                    near = rng.permutation(rows[usage[rows] >= _NEAR * most])[:count]
                    queues.append((most < _NEAR, self.batch(near)))
        queues.sort(key=lambda queue: queue[0])
        turns = zip_longest(*(batch for _, batch in queues))
        return list(dict.fromkeys(one for turn in turns for one in turn if one is not None))[:count]


def build_pool(
    space: SearchSpace, goals: Goals, *, max_enumerated: int, rng: np.random.Generator
) -> Pool:
    """Predict a space whole, or a sample of it that reaches the limits.

    Raises:
        NasError: nothing in it keeps to a goal's limits; the message says what would be feasible.
    """
    if space.size <= max_enumerated:
        pool = _gather(space.enumerate(_BLOCK), goals, space.uniform, complete=True)
    else:
        sample = _sample_towards_limits(space, goals, rng)
        pool = _gather([ArchitectureBatch.of(sample)], goals, space.uniform, complete=False)
    for goal, usage in zip(goals.each, pool.usage, strict=True):
        if not (usage <= 1).any():
            blocks = list(pool.blocks(np.arange(len(pool))))
            counts = [parameters(block, goal.shape) for block in blocks]
            latencies = [goal.predict_latency(block) for block in blocks]
            raise unmet(goal.limits, np.concatenate(latencies), np.concatenate(counts))
    return pool


def _gather(
    blocks: Iterable[ArchitectureBatch], goals: Goals, uniform: bool, *, complete: bool
) -> Pool:
    columns = []
    for block in blocks:
        sizes = np.stack([block.hidden_size, block.num_layers], axis=1)
        layers = np.stack(
            [block.num_heads, block.qkv_size, block.intermediate_size, block.compression]
        )
        kept = layers[:, :, :1] if uniform else layers
        latency_ms, usage = goals.measure(block)
        columns.append((sizes.astype(np.int32), kept.astype(np.int32), latency_ms[0], usage))
    sizes_, layers_, latencies, usages = zip(*columns, strict=True)
    depth = max(part.shape[2] for part in layers_)
    padded = [np.pad(p, ((0, 0), (0, 0), (0, depth - p.shape[2]))) for p in layers_]
    return Pool(
        np.concatenate(sizes_),
        np.concatenate(padded, axis=1),
        np.concatenate(latencies),
        np.concatenate(usages, axis=1),
        complete,
    )


def _sample_towards_limits(
    space: SearchSpace, goals: Goals, rng: np.random.Generator
) -> list[Architecture]:
    """A random sample, and for each goal walks from those members that are nearest to its limits.

    A tight budget holds a vanishing share of a large space; mutants of the nearest reach it.
    """
    found = dict.fromkeys([space.smallest, space.largest])
    found |= dict.fromkeys(space.sample(rng) for _ in range(_SAMPLES))
    members, usage = list(found), goals.usage(found)
    for goal in range(len(goals)):
        for _ in range(_WALKS):
            nearest = np.argsort(np.abs(np.log(usage[goal])), kind="stable")[:_WALKERS]
            mutants = (space.mutate(members[row], rng) for row in nearest for _ in range(_MUTANTS))
            fresh = [mutant for mutant in dict.fromkeys(mutants) if mutant not in found]
            if fresh:
                found |= dict.fromkeys(fresh)
                members += fresh
                usage = np.concatenate([usage, goals.usage(fresh)], axis=1)
    return members
