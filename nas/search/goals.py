"""Goals: the budgets, on one target or on several, that one search serves."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas.search.constraints import FloatArray, Limits, parameters
from supernet.architecture import Architecture, EncoderShape
from supernet.batch import ArchitectureBatch

PredictLatency = Callable[[ArchitectureBatch], FloatArray]
"""From N architectures to their latencies in milliseconds, (N,), on one target."""


@dataclass(frozen=True)
class Goal:
    """The highest score within limits.

    Args:
        predict_latency: for the target that the limits speak of.
        limits: what an architecture must keep to.
        shape: of the models that are counted.
        least_usage: the share of some limit that a searcher's proposals must use: accuracy grows
            with what a model may use, so searchers without a score predictor look near the limits.
    """

    predict_latency: PredictLatency
    limits: Limits
    shape: EncoderShape = EncoderShape()
    least_usage: float = 0.0


@dataclass(frozen=True)
class Goals:
    """The goals of one search.

    Args:
        each: one or more.
    """

    each: tuple[Goal, ...]

    def __len__(self) -> int:
        return len(self.each)

    def measure(self, batch: ArchitectureBatch) -> tuple[FloatArray, FloatArray]:
        """Predicted latency and usage of the limits (see :meth:`Limits.usage`), each (G, N)."""
        predicted: dict[PredictLatency, FloatArray] = {}
        latencies, usages = [], []
        for goal in self.each:
            if goal.predict_latency not in predicted:
                found = np.asarray(goal.predict_latency(batch), dtype=float)
                predicted[goal.predict_latency] = found
            latencies.append(predicted[goal.predict_latency])
            usages.append(goal.limits.usage(latencies[-1], parameters(batch, goal.shape)))
        return np.stack(latencies), np.stack(usages)

    def usage(self, architectures: Collection[Architecture]) -> FloatArray:
        """Usage of each goal's limits, (G, N)."""
        return self.measure(ArchitectureBatch.of(list(architectures)))[1]

    def using(self, usage: FloatArray, share: float) -> Goals:
        """The same goals, each of which asks for this share of the greatest feasible usage.

        Args:
            usage: of each goal's limits, (G, N), by all there is.
        """
        if not share:
            return self
        most = (one[one <= 1].max() for one in usage)
        pairs = zip(self.each, most, strict=True)
        return Goals(tuple(replace(goal, least_usage=share * float(m)) for goal, m in pairs))

    def allow(self, usage: FloatArray) -> NDArray[np.bool_]:
        """Which architectures, of a usage (G, N), may be proposed for any of the goals, (N,)."""
        least = np.array([goal.least_usage for goal in self.each])[:, None]
        return np.logical_or.reduce((usage <= 1) & (usage >= least), axis=0)
