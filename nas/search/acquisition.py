"""What scoring an architecture is expected to gain, over all goals of a search.

For one goal it is the expected improvement (Jones, Schonlau and Welch, "Efficient Global
Optimization of Expensive Black-Box Functions", 1998) over the best known within its limits; for
several, the sum, so that one evaluation may serve many. With a budget at every latency that sum
would be the expected growth of the area under the front.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas.search.constraints import FloatArray
from nas.search.score_predictor import ScorePredictor
from supernet.batch import ArchitectureBatch


def expected_improvement(mean: FloatArray, deviation: FloatArray, best: FloatArray) -> FloatArray:
    """E[max(0, s - best)] for a normal score s; all broadcast.

    Example:
        >>> expected_improvement(np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array(0.0)).round(4)
        array([1.    , 0.3989])
    """
    deviation = np.maximum(deviation, 1e-12)
    ahead = (mean - best) / deviation
    density = np.exp(-0.5 * ahead**2) / np.sqrt(2 * np.pi)
    improvement: FloatArray = deviation * (ahead * ndtr(ahead) + density)
    return improvement


def expected_gain(
    mean: FloatArray, deviation: FloatArray, feasible: NDArray[np.bool_], best: FloatArray
) -> FloatArray:
    """Expected improvement summed over the goals whose limits an architecture keeps to, (N,).

    Args:
        mean, deviation: of the predicted score, (N,)
        feasible: (G, N)
        best: highest expected score known within each goal's limits, (G,)
    """
    gain: FloatArray = np.zeros_like(mean)
    for kept, known in zip(feasible, best, strict=True):
        gain[kept] += expected_improvement(mean[kept], deviation[kept], known)
    return gain


def choose(
    predictor: ScorePredictor,
    pending: ArchitectureBatch,
    candidates: ArchitectureBatch,
    feasible: NDArray[np.bool_],
    best: FloatArray,
    count: int,
) -> NDArray[np.intp]:
    """Candidates to score next: of the greatest expected gain, and not all alike.

    Each pick is then taken to be scored as expected, which lowers the doubt about its neighbours
    and may raise the best known, before the next is picked (the kriging believer; Ginsbourger, Le
    Riche and Carraro, 2010). So are those that are being scored.

    Args:
        pending: (P,) architectures that are being scored.
        candidates: (N,)
        feasible: (G, N) which goals' limits each candidate keeps to.
        best: (G,) as in :func:`expected_gain`.
        count: how many; at most N.

    Returns:
        (count,) rows of ``candidates``, in the order of choice.
    """
    mean, covariance = predictor.joint(ArchitectureBatch.join(pending, candidates))
    noise = predictor.noise_**2
    for row in range(len(pending)):
        covariance = _believed(covariance, row, noise)
    mean, covariance = mean[len(pending) :], covariance[len(pending) :, len(pending) :]
    best = best.copy()
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
        gain = expected_gain(mean, deviation, feasible, best)
        gain[chosen] = -np.inf
        row = int(np.argmax(gain))
        covariance = _believed(covariance, row, noise)
        best = np.where(feasible[:, row], np.maximum(best, mean[row]), best)
        chosen.append(row)
    return np.array(chosen, dtype=np.intp)


def _believed(covariance: FloatArray, row: int, noise: float) -> FloatArray:
    """The covariance once the score of ``row`` is known up to ``noise``, a variance."""
    column = covariance[:, row]
    return covariance - np.outer(column, column) / (column[row] + noise)
