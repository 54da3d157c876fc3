"""Chooses what to measure: models drawn at random, and what would lower the error most.

The error on models drawn at random tells how good the predictor is on any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latency.calls import Subject, calls_of
from latency.kernels import SIZES, Kernel, lower
from latency.process import Posterior
from latency.profile import Role
from latency.target import Workload
from latency.terms import FloatArray
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch, IntArray
from supernet.space import SearchSpace

Planned = tuple[Subject, Role]

_SAMPLE = 500  # architectures drawn to learn which kernels occur in a space
_OPENING = 3  # kernels of each kind in the opening
_CANDIDATES = 150  # models, and as many kernels, to choose from
_POOL = 200  # models whose predictive variance the choice lowers


def opening(
    spaces: Sequence[SearchSpace],
    workloads: Sequence[Workload],
    *,
    first_token_last_layer: bool,
    rng: np.random.Generator,
) -> list[Planned]:
    """The first measurements: the call, a few kernels of each kind, each space's extremes."""
    kernels = [Kernel("call", ())]
    for kind, shapes in kernel_shapes(spaces, first_token_last_layer, rng).items():
        picked = shapes[spread(np.log(shapes), _OPENING)]
        kernels += [Kernel(kind, tuple(map(int, sizes))) for sizes in picked]
    subjects = [Subject.kernel(k, _pick(workloads, rng)) for k in kernels]
    subjects += [Subject(space.largest, workloads[-1]) for space in spaces]
    subjects += [Subject(space.smallest, workloads[0]) for space in spaces]
    return [(subject, "chosen") for subject in dict.fromkeys(subjects)]


def draw(
    spaces: Sequence[SearchSpace],
    workloads: Sequence[Workload],
    count: int,
    rng: np.random.Generator,
) -> list[Subject]:
    """``count`` random models, from the spaces in turn, each with a random workload of the grid."""
    first = int(rng.integers(len(spaces)))
    return [
        Subject(spaces[(first + number) % len(spaces)].sample(rng), _pick(workloads, rng))
        for number in range(count)
    ]


def most_useful(
    posterior: Posterior,
    spaces: Sequence[SearchSpace],
    workloads: Sequence[Workload],
    count: int,
    *,
    first_token_last_layer: bool,
    rng: np.random.Generator,
) -> list[Subject]:
    """The kernels and models that lower the error over the spaces most for each second measured.

    See :meth:`latency.process.Posterior.gains`. Models with a layer of each size teach more than
    ones with equal layers, whatever the space has.
    """
    free = [replace(space, uniform=False) for space in spaces]
    candidates = draw([*spaces, *free], workloads, _CANDIDATES, rng)
    for kind, shapes in kernel_shapes(spaces, first_token_last_layer, rng).items():
        rows = rng.choice(len(shapes), min(len(shapes), _CANDIDATES // 6), replace=False)
        kernels = [Kernel(kind, tuple(map(int, shapes[row]))) for row in rows]
        candidates += [Subject.kernel(kernel, _pick(workloads, rng)) for kernel in kernels]
    calls = calls_of(candidates, first_token_last_layer=first_token_last_layer)
    pool = draw(spaces, workloads, _POOL, rng)
    chosen = posterior.gains(
        calls,
        calls_of(pool, first_token_last_layer=first_token_last_layer),
        count,
        cost_ms(candidates, posterior.predict(calls)),
    )
    return [candidates[row] for row in chosen]


def cost_ms(subjects: Sequence[Subject], times_ms: FloatArray) -> FloatArray:
    """Approximate milliseconds to build and measure each subject, (N,).

    Building grows with the weights to write, measuring with ten rounds of calls.
    """
    width = [
        sum(layer.weights(s.what.hidden_size) for layer in s.what.layers)
        if isinstance(s.what, Architecture)
        else s.copies * _matrix(s.what)
        for s in subjects
    ]
    return 40 + 40 * np.maximum(times_ms, 0.01) + 4e-5 * np.array(width, dtype=np.float64)


def _matrix(kernel: Kernel) -> int:
    """Approximate number of weights in the largest matrix of a kernel."""
    sizes = kernel.sizes[:-1] if "factored" in kernel.kind else kernel.sizes
    return sizes[0] * sizes[-1] // kernel.layer.compression if sizes else 0


def kernel_shapes(
    spaces: Sequence[SearchSpace], first_token_last_layer: bool, rng: np.random.Generator
) -> dict[str, IntArray]:
    """Sizes of the kernels that a sample of the spaces' models has, (N, D), by kind."""
    models = [space.sample(rng) for space in spaces for _ in range(_SAMPLE // len(spaces))]
    models += [extreme for space in spaces for extreme in (space.largest, space.smallest)]
    lowered = lower(ArchitectureBatch.of(models), first_token_last_layer=first_token_last_layer)
    found = {}
    for kind, table in lowered.items():
        shapes = np.unique(table.reshape(-1, len(SIZES[kind])), axis=0)
        shapes = shapes[shapes.all(axis=1)]  # without the zeros of absent layers
        if len(shapes):
            found[kind] = shapes
    return found


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


def _pick(workloads: Sequence[Workload], rng: np.random.Generator) -> Workload:
    return workloads[int(rng.integers(len(workloads)))]
