"""Which kernels and which models of a space to measure: few, spread over all of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from latency.kernels import SIZES, Kernel, lower
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch, IntArray
from supernet.space import SearchSpace

_POOL = 2000  # architectures drawn to learn which kernels a space can ask for


def kernel_design(
    space: SearchSpace,
    counts: Mapping[str, int],
    *,
    first_token_last_layer: bool,
    rng: np.random.Generator,
) -> list[Kernel]:
    """Kernels that fill the space's range of shapes, fewer where it has fewer.

    Args:
        counts: kernels at the most, by kind.
        first_token_last_layer: see :func:`latency.kernels.lower`.
    """
    pool = [space.largest, space.smallest, *(space.sample(rng) for _ in range(_POOL))]
    lowered = lower(ArchitectureBatch.of(pool), first_token_last_layer=first_token_last_layer)
    chosen = [Kernel("call", ())]
    for kind, table in lowered.items():
        shapes = np.unique(table.reshape(-1, len(SIZES[kind])), axis=0)
        shapes = shapes[shapes.all(axis=1)]  # without the zeros of absent layers
        picked = shapes[spread(np.log(shapes), counts[kind])]
        chosen += [Kernel(kind, tuple(map(int, sizes))) for sizes in picked]
    return chosen


def model_design(space: SearchSpace, count: int, *, rng: np.random.Generator) -> list[Architecture]:
    """The largest, the smallest, and others that fill the space between.

    What spreads is depth, width and mean layer sizes, on a logarithmic scale.
    """
    pool = [space.largest, space.smallest, *(space.sample(rng) for _ in range(_POOL))]
    pool = list(dict.fromkeys(pool))
    batch = ArchitectureBatch.of(pool)
    means = [
        sizes.sum(axis=1) / batch.num_layers
        for sizes in (batch.num_heads, batch.qkv_size, batch.intermediate_size)
    ]
    points = np.log(np.stack([batch.num_layers, batch.hidden_size, *means], axis=1))
    return [pool[row] for row in spread(points, count)]


def spread(points: NDArray[np.float64], count: int) -> IntArray:
    """Rows that are far from each other: each next is the farthest from all before it.

    A greedy maximin design (Gonzalez, 1985), with every column scaled to [0, 1]. It starts at
    the row of the largest sum.

    Args:
        points: (N, D)

    Returns:
        (min(count, N),) row numbers, in the order chosen.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    chosen = [int(scaled.sum(axis=1).argmax())]
    distance = np.full(len(scaled), np.inf)
    while len(chosen) < min(count, len(scaled)):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen, dtype=np.int64)
