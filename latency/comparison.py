"""Compares two devices: how much faster one is, and whether it ranks models alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latency.accuracy import accuracy
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.target import Workload
from latency.terms import FloatArray
from supernet.architecture import Architecture
from supernet.errors import NasError
from supernet.space import SearchSpace

GROUPS = 4
"""Number of groups of architectures by size in a comparison."""


@dataclass(frozen=True)
class Group:
    """Architectures of similar size.

    Args:
        parameters: least and most parameters.
        first_ms, second_ms: median predicted latency on each device.
        ratio: second latency over first: geometric mean, least and most.
    """

    parameters: tuple[int, int]
    first_ms: float
    second_ms: float
    ratio: tuple[float, float, float]


@dataclass(frozen=True)
class Comparison:
    """Predictions for the same N architectures from two profiles.

    Args:
        workload: the input of all predictions.
        first_ms, second_ms: predictions on each device, (N,)
        groups: architectures by size, smallest first.
        ratio: geometric mean of second over first latencies.
        kendall_tau: agreement of the two rankings, -1 to 1.
    """

    workload: Workload
    architectures: tuple[Architecture, ...]
    first_ms: FloatArray
    second_ms: FloatArray
    groups: tuple[Group, ...]
    ratio: float
    kendall_tau: float


def compare(first: Profile, second: Profile, *, count: int = 200, seed: int = 0) -> Comparison:
    """Compare predictions for a sample of the spaces that both profiles cover.

    If the profiles share no space, the sample is from the spaces of both.

    Raises:
        NasError: they have no workload in common, or one is not complete.
    """
    workload = common_workload(first, second)
    rng = np.random.default_rng(seed)
    spaces = common_spaces(first, second)
    drawn = [spaces[number % len(spaces)].sample(rng) for number in range(count)]
    architectures = list(dict.fromkeys(drawn))
    ours, theirs = (
        LatencyPredictor(one).fit().predict(architectures, target=one.target.of(workload))
        for one in (first, second)
    )
    parameters = np.array([one.parameters(first.shape) for one in architectures])
    rows = [part for part in np.array_split(np.argsort(parameters), GROUPS) if len(part)]
    return Comparison(
        workload=workload,
        architectures=tuple(architectures),
        first_ms=ours,
        second_ms=theirs,
        groups=tuple(_group(parameters[r], ours[r], theirs[r]) for r in rows),
        ratio=_geometric_mean(theirs / ours),
        kendall_tau=accuracy(ours, theirs).kendall_tau,
    )


def common_workload(first: Profile, second: Profile) -> Workload:
    """A workload that both profiles serve: that of ``first``'s target, or the first in its grid.

    Raises:
        NasError: there is none.
    """
    for workload in (first.target.workload, *first.workloads):
        try:
            first.check_serves(first.target.of(workload))
            second.check_serves(second.target.of(workload))
        except NasError:
            continue
        return workload
    raise NasError(
        f"the profiles have no workload in common: one is of {_listed(first)}, the other of "
        f"{_listed(second)}"
    )


def common_spaces(first: Profile, second: Profile) -> list[SearchSpace]:
    """The spaces that both profiles cover; if they share none, the spaces of both.

    The latter include compressed layers only if both profiles have some.
    """
    shared = [SearchSpace.from_dict(space) for space in first.spaces if space in second.spaces]
    if shared:
        return shared
    ones, others = ([SearchSpace.from_dict(one) for one in p.spaces] for p in (first, second))
    if all(any(space != space.whole for space in spaces) for spaces in (ones, others)):
        return [*ones, *others]
    return [space.whole for space in (*ones, *others)]


def _group(parameters: np.ndarray, first_ms: FloatArray, second_ms: FloatArray) -> Group:
    ratios = second_ms / first_ms
    return Group(
        parameters=(int(parameters.min()), int(parameters.max())),
        first_ms=float(np.median(first_ms)),
        second_ms=float(np.median(second_ms)),
        ratio=(_geometric_mean(ratios), float(ratios.min()), float(ratios.max())),
    )


def _geometric_mean(ratios: FloatArray) -> float:
    return float(np.exp(np.log(ratios).mean()))


def _listed(profile: Profile) -> str:
    return "; ".join(map(str, profile.workloads))
