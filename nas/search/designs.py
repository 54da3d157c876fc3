"""Shapes that people design by hand, as members of a search space."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nas.search.constraints import FloatArray
from nas.search.pool import Pool
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch

Distance = Callable[[ArchitectureBatch, Architecture], FloatArray]
"""How far from a design N architectures are for a teacher, (N,): 0 at the design itself."""

NEAR = 0.15
"""What is further from a design, in nats over all sizes, is another design."""

WORTHWHILE = 0.5
"""What leaves more than half of a budget unused is nobody's answer to it."""

SMALLER = (1 / 2, 1 / 4, 1 / 8)
"""Shares of a budget for which a search tells what a design would do."""


def fewer_layers(batch: ArchitectureBatch, teacher: Architecture) -> FloatArray:
    """The teacher's layers as they are, but fewer of them (DistilBERT, Sanh et al. 2019)."""
    (layer, *_) = teacher.layers
    return (
        _apart(batch.hidden_size, teacher.hidden_size)
        + _apart(batch.qkv_size, layer.qkv_size)
        + _apart(batch.intermediate_size, layer.intermediate_size)
    )


def thinner(batch: ArchitectureBatch, teacher: Architecture) -> FloatArray:
    """All of the teacher's layers, each narrower in proportion."""
    (layer, *_) = teacher.layers
    share = batch.hidden_size / teacher.hidden_size
    return (
        _apart(batch.num_layers, teacher.num_layers)
        + _apart(batch.qkv_size, layer.qkv_size * share)
        + _apart(batch.intermediate_size, layer.intermediate_size * share)
    )


def tinybert(batch: ArchitectureBatch, _teacher: Architecture) -> FloatArray:
    """TinyBERT's proportions (Jiao et al. 2020): 4 layers, 312 wide with 1,200 neurons, scaled."""
    hidden = batch.hidden_size
    return (
        _apart(batch.num_layers, 4)
        + _apart(batch.qkv_size, hidden)
        + _apart(batch.intermediate_size, hidden * (1200 / 312))
    )


DESIGNS: dict[str, Distance] = {
    "fewer layers": fewer_layers,
    "thinner": thinner,
    "TinyBERT's proportions": tinybert,
}

PREFERRED = ("thinner", "TinyBERT's proportions", "fewer layers")
"""By how much of their teacher's score they kept on average (``benchmarks/speedups.py``)."""


def designs_for(pool: Pool, goal: int, teacher: Architecture) -> list[Architecture]:
    """What people would design by hand for a goal, of those for which the pool was built."""
    return list(_designs_within(1.0, pool, goal, teacher).values())


def designs_below(pool: Pool, goal: int, teacher: Architecture) -> list[Architecture]:
    """One design for each of :data:`SMALLER` budgets than a goal's, where there is any.

    They tell what less time would do, so that a front answers for it, too.
    """
    found = []
    for share in SMALLER:
        designs = _designs_within(share, pool, goal, teacher)
        found += [designs[name] for name in PREFERRED if name in designs][:1]
    return found


def _designs_within(
    share: float, pool: Pool, goal: int, teacher: Architecture
) -> dict[str, Architecture]:
    usage = pool.usage[goal]
    most = usage[usage <= share].max(initial=0.0)
    rows = np.flatnonzero((usage <= share) & (usage >= WORTHWHILE * most))
    return designed(pool, rows, usage[rows], teacher)


def designed(
    pool: Pool, rows: NDArray[np.intp], latency_ms: FloatArray, teacher: Architecture
) -> dict[str, Architecture]:
    """For each design the slowest member that is near it, by name; without those that have none.

    Args:
        rows: of the pool, what is fast enough.
        latency_ms: of these, (N,), or what grows with it.
    """
    found: dict[str, Architecture] = {}
    slowest_first = rows[np.argsort(-latency_ms, kind="stable")]
    for name, distance in DESIGNS.items():
        for start in range(0, len(slowest_first), 65536):
            some = slowest_first[start : start + 65536]
            near = np.flatnonzero(distance(pool.batch(some), teacher) <= NEAR)
            if len(near):
                found[name] = pool.batch(some[near[:1]]).architecture(0)
                break
    return found


def _apart(sizes: NDArray[np.generic], wanted: object) -> FloatArray:
    """Distance of sizes on a logarithmic scale, (N,); of layers' sizes, (N, L), the mean.

    A layer that is absent has a size of 0 and does not count.
    """
    given = np.asarray(sizes, dtype=float)
    wanted = np.asarray(wanted, dtype=float)
    if given.ndim == 1:
        return np.abs(np.log(given / wanted))
    present = given > 0
    wanted = np.broadcast_to(wanted[..., None] if wanted.ndim else wanted, given.shape)
    apart = np.abs(np.log(np.where(present, given, wanted) / wanted))
    found: FloatArray = apart.sum(1) / present.sum(1)
    return found
