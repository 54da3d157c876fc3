"""Chooses all measurements beforehand, for a device that cannot choose while it measures.

:mod:`latency.design` chooses what teaches most given what was measured. Here nothing is measured
yet, so the choice assumes a device whose kernels take time in proportion to their arithmetic. The
assumption matters little: the choice depends only on the shares that kernels have in models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latency.calls import Calls, calls_of
from latency.design import Planned, draw, most_useful, opening
from latency.process import fit_posterior
from latency.profiler import GROUP, LEAST_DRAWN
from latency.target import Workload
from latency.terms import FloatArray, kernel_terms
from supernet.space import SearchSpace

_REPEATED = 3  # one in so many drawn models is measured twice
_START_MS, _PACE_MS = 3e-3, 1e-7  # assumed time of a kernel, and of a unit of its terms


def static_design(
    spaces: Sequence[SearchSpace],
    workloads: Sequence[Workload],
    *,
    chosen: int,
    drawn: int,
    seed: int,
) -> list[Planned]:
    """The measurements, in order. A device that stops early has some of every kind.

    Args:
        chosen: number of kernels and models to learn from.
        drawn: number of models drawn at random, at least :data:`latency.profiler.LEAST_DRAWN`. Some
            of them are measured a second time.
    """
    rng = np.random.default_rng(seed)
    models = list(dict.fromkeys(draw(spaces, workloads, max(drawn, LEAST_DRAWN), rng)))
    first = opening(spaces, workloads, first_token_last_layer=True, rng=rng)
    known = calls_of(
        [subject for subject, _ in first] + models[:LEAST_DRAWN], first_token_last_layer=True
    )
    posterior = fit_posterior(known, assumed_ms(known), learn=False)
    useful = most_useful(
        posterior, spaces, workloads, max(0, chosen - len(first)),
        first_token_last_layer=True, rng=rng,
    )  # fmt: skip
    least: list[Planned] = [(model, "drawn") for model in models[:LEAST_DRAWN]]
    plan = _shuffled([*first, *least], rng)
    others: list[Planned] = [(model, "drawn") for model in models[LEAST_DRAWN:]]
    others += [(model, "again") for model in models[::_REPEATED]]
    steps = max(1, (len(useful) + len(others)) // (4 * GROUP))
    for step in range(steps):
        part = [*others[step::steps], *((one, "chosen") for one in useful[step::steps])]
        plan += _shuffled(part, rng)
    return _firsts_before_repeats(plan)


def assumed_ms(calls: Calls) -> FloatArray:
    """Milliseconds of each call on the assumed device, (N,)."""
    total = np.zeros(len(calls))
    for kind, shapes in calls.shapes.items():
        work = kernel_terms(kind, shapes)[:, 1:].sum(axis=1)
        total += calls.counts[kind] @ (_START_MS + _PACE_MS * work)
    return total


def _shuffled(plan: Sequence[Planned], rng: np.random.Generator) -> list[Planned]:
    return [plan[row] for row in rng.permutation(len(plan))]


def _firsts_before_repeats(plan: Sequence[Planned]) -> list[Planned]:
    """``plan`` with the role "again" only after a model's "drawn"."""
    seen: set[object] = set()
    found: list[Planned] = []
    for subject, role in plan:
        if role in ("drawn", "again"):
            found.append((subject, "again" if subject in seen else "drawn"))
            seen.add(subject)
        else:
            found.append((subject, role))
    return found
