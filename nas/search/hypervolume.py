"""How good a front is, in one figure: the area that it dominates.

The area lies between the front and a reference point that is worse than it in both. Latency is on
a logarithmic axis, because budgets are ratios: halving 1 ms is worth what halving 10 ms is, whereas
on a linear axis the slow end of a front would be nearly all of its area. Scores are linear, so
the unit is score times the natural logarithm of a latency ratio. Two searches compare only under
the same reference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nas.search.constraints import FloatArray
from nas.search.front import non_dominated
from supernet.errors import NasError

Reference = tuple[float, float]
"""Latency in ms and score that a point must be better than, in both, to count."""


def reference_point(latency_ms: ArrayLike, score: ArrayLike) -> Reference:
    """A tenth beyond the worst of either, so that the extremes of a front count as well.

    Args:
        latency_ms: (N,), of everything that is to be compared.
        score: (N,)

    Raises:
        NasError: no points, or see :func:`hypervolume`.
    """
    latency, value = _checked(latency_ms, score)
    if not len(latency):
        raise NasError("a reference point needs at least one latency and score")
    # Equal scores leave no range to take a tenth of, yet must lie above the reference.
    score_range = float(np.ptp(value)) or max(abs(float(value[0])), 1.0)
    return 1.1 * float(latency.max()), float(value.min()) - 0.1 * score_range


def hypervolume(latency_ms: ArrayLike, score: ArrayLike, reference: Reference) -> float:
    """The area that points dominate, exactly.

    Args:
        latency_ms: (N,), above 0. Dominated points and those beyond the reference add nothing.
        score: (N,)
        reference: of the area's far corner.

    Raises:
        NasError: not as many scores as latencies, or a value out of range.

    Example:
        >>> round(hypervolume([1.0, np.e], [0.5, 0.9], (np.e**2, 0.0)), 6)
        1.4
    """
    latency, value = _checked(latency_ms, score)
    far, low = _checked_reference(reference)
    latency, value = np.minimum(latency, far), np.maximum(value, low)
    rows = non_dominated(latency, value)
    widths = np.diff(np.log(np.append(latency[rows], far)))  # to the next point, or to the end
    return float(widths @ (value[rows] - low))


def hypervolume_over(latency_ms: ArrayLike, score: ArrayLike, reference: Reference) -> FloatArray:
    """:func:`hypervolume` of the first point, of the first two, and so on.

    Args:
        latency_ms: (N,), in the order in which they were scored.
        score: (N,)
        reference: of all N areas.

    Returns:
        (N,), never falling.

    Raises:
        NasError: see :func:`hypervolume`.
    """
    latency, value = _checked(latency_ms, score)
    _checked_reference(reference)
    volumes = np.zeros(len(latency))
    front = np.empty(0, dtype=np.intp)  # few rows, so that each step is cheap
    for row in range(len(latency)):
        rows = np.append(front, row)
        front = rows[non_dominated(latency[rows], value[rows])]
        volumes[row] = hypervolume(latency[front], value[front], reference)
    return np.maximum.accumulate(volumes)  # the same area summed in other parts may round down


def _checked(latency_ms: ArrayLike, score: ArrayLike) -> tuple[FloatArray, FloatArray]:
    latency, value = np.asarray(latency_ms, dtype=float), np.asarray(score, dtype=float)
    if latency.ndim != 1 or latency.shape != value.shape:
        raise NasError(
            f"score must have one value for each latency, not shape {value.shape} "
            f"for {latency.shape}"
        )
    wrong = latency[~(np.isfinite(latency) & (latency > 0))]
    if len(wrong):
        raise NasError(f"latency_ms must be above 0 and finite, not {wrong[0]}")
    wrong = value[~np.isfinite(value)]
    if len(wrong):
        raise NasError(f"score must be finite, not {wrong[0]}")
    return latency, value


def _checked_reference(reference: Reference) -> Reference:
    far, low = reference
    if not (0 < far < float("inf") and np.isfinite(low)):
        raise NasError(
            f"reference must be a latency above 0 ms and a score, both finite, not {reference!r}"
        )
    return reference
