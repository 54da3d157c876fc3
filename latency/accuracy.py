"""How well predicted latencies agree with measured ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Accuracy:
    """Agreement of N predictions with measurements.

    Args:
        models: N.
        mape_percent: mean absolute error relative to the measurement.
        within_5_percent, within_10_percent: share of models with an error up to that, 0 to 1.
        bias_percent: median of predicted over measured, minus one; above 0 is too slow.
        kendall_tau: rank correlation (tau-b); 0 if there is one model, or all times are equal.
    """

    models: int
    mape_percent: float
    within_5_percent: float
    within_10_percent: float
    bias_percent: float
    kendall_tau: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class PredictorErrors(Accuracy):
    """A predictor's accuracy beside the repeatability floor, both of medians (p50).

    The floor is the agreement between two measurements of the same models, which are built anew for
    the second. No predictor can be much better.

    Args:
        margin_95_percent: with 95% probability, a latency exceeds its prediction by less than this;
            None if too few models were measured.
        by_latency: the accuracy of the fastest, middle and slowest third of the models, by the
            range of their measured milliseconds, such as ``"0.2 to 1.5 ms"``.
    """

    margin_95_percent: float | None
    floor_models: int
    floor_mape_percent: float
    floor_within_5_percent: float
    floor_within_10_percent: float
    by_latency: Mapping[str, Accuracy] = field(default_factory=dict)


def by_latency(
    predicted_ms: NDArray[np.float64], measured_ms: NDArray[np.float64]
) -> dict[str, Accuracy]:
    """Accuracy of the fastest, middle and slowest third, by the range of their milliseconds."""
    thirds = [rows for rows in np.array_split(np.argsort(measured_ms), 3) if len(rows)]
    return {
        f"{measured_ms[rows].min():.3g} to {measured_ms[rows].max():.3g} ms": accuracy(
            predicted_ms[rows], measured_ms[rows]
        )
        for rows in thirds
    }


def accuracy(predicted_ms: NDArray[np.float64], measured_ms: NDArray[np.float64]) -> Accuracy:
    """Compare two arrays, (N,) each; or a first measurement with a second, for the floor."""
    from scipy.stats import kendalltau

    if not len(measured_ms):
        return Accuracy(0, math.nan, math.nan, math.nan, math.nan, math.nan)
    ratios = predicted_ms / measured_ms
    errors = np.abs(ratios - 1)
    tau = float(kendalltau(predicted_ms, measured_ms).statistic) if len(ratios) > 1 else 0.0
    return Accuracy(
        models=len(ratios),
        mape_percent=float(100 * errors.mean()),
        within_5_percent=float((errors <= 0.05).mean()),
        within_10_percent=float((errors <= 0.10).mean()),
        bias_percent=float(100 * (np.median(ratios) - 1)),
        kendall_tau=0.0 if math.isnan(tau) else tau,
    )
