"""Predicts the validation score of a sub-network from those already scored, with its doubt.

A Gaussian process on the logarithms of an architecture's sizes: few, noisy scores of a smooth
function are what it is for. Its posterior also smooths the scores themselves: on a small
validation set two equal sub-networks differ by chance, and the neighbours of each know better.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from latency.gaussian import matern
from nas.search.constraints import FloatArray
from nas.search.goals import Goals
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch

_BLOCK = 8192
_STEPS = 40
_TUNED = 224
_MAX_OBSERVATIONS = 1024
"""A Gaussian process costs the cube of these; the scores nearest to the limits count most."""


def features(batch: ArchitectureBatch) -> FloatArray:
    """What a score depends on, (N, 10): logarithms of sizes, and where in depth they lie.

    Columns: hidden size, depth, mean heads, mean qkv, mean intermediate, encoder parameters,
    operations a token, compression; then the slope over depth of qkv and of intermediate, 0 in
    equal layers.
    """
    depth = batch.num_layers
    batch = batch.expanded()
    qkv, intermediate = batch.qkv_size.sum(1), batch.intermediate_size.sum(1)
    weights = batch.weights.sum(1)
    sizes = [
        batch.hidden_size,
        depth,
        batch.num_heads.sum(1) / depth,
        qkv / depth,
        intermediate / depth,
        weights,
        weights + 128 * qkv,  # attention over 64 positions
        batch.hidden_size * (4 * qkv + 2 * intermediate) / weights,
    ]
    slopes = [_slope(batch.qkv_size, depth), _slope(batch.intermediate_size, depth)]
    return np.stack([np.log2(size) for size in sizes] + slopes, axis=1)


def _optimum(
    objective: Callable[..., Any], start: FloatArray, bounds: FloatArray
) -> tuple[FloatArray, float]:
    """Hyperparameters, near enough: each step costs a factorization, and the last change little."""
    found = minimize(
        objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": _STEPS}
    )
    return found.x, found.fun


def _slope(widths: NDArray[np.int64], depth: NDArray[np.int64]) -> FloatArray:
    """Correlation-like tilt of layer widths over depth, in [-1, 1]; (N, L) -> (N,)."""
    layer = np.arange(widths.shape[1])
    centred = np.where(layer < depth[:, None], 2 * layer + 1 - depth[:, None], 0)
    tilt: FloatArray = (centred * widths).sum(1) / (depth * widths.sum(1))
    return tilt


class ScorePredictor:
    """Gaussian process regression of scores.

    Args:
        seed: scikit-learn's; the fit has no chance in it, but scikit-learn wants it stated.

    Attributes:
        noise_: standard deviation of the scores' noise, in units of the score.

    Example:
        >>> from supernet.architecture import Architecture
        >>> sizes = [64, 128, 192, 256, 320]
        >>> batch = ArchitectureBatch.of([
        ...     Architecture.uniform(num_layers=2, hidden_size=h, num_heads=2, intermediate_size=h)
        ...     for h in sizes])
        >>> predictor = ScorePredictor().fit(batch, np.log(sizes))
        >>> mean, deviation = predictor.predict(batch)
        >>> bool(np.abs(mean - np.log(sizes)).max() < 0.05)
        True
    """

    _process: Any

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def fit(
        self, batch: ArchitectureBatch, scores: FloatArray, *, like: ScorePredictor | None = None
    ) -> Self:
        """Fit to N architectures and their scores, (N,), N at least 1.

        Args:
            like: a fitted predictor whose hyperparameters (scales, length scales, noise) are taken
                over: one factorization instead of an optimization over dozens.
        """
        raw = features(batch)
        if like is None:
            self._kept = np.ptp(raw, axis=0) > 0  # what never changes tells nothing
            self._centre, self._scale = raw.mean(0), np.where(self._kept, raw.std(0), 1.0)
            self._mean, deviation = float(np.mean(scores)), float(np.std(scores))
            self._unit = deviation if deviation > 0 else 1.0
            kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(
                np.full(max(1, self._kept.sum()), 3.0), (0.3, 100.0), nu=2.5
            ) + WhiteKernel(0.05, (1e-5, 1.0))
            process = GaussianProcessRegressor(kernel, optimizer=_optimum, random_state=self._seed)
        else:
            self._kept, self._centre, self._scale = like._kept, like._centre, like._scale
            self._mean, self._unit = like._mean, like._unit
            process = GaussianProcessRegressor(like._process.kernel_, optimizer=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound
            process.fit(self._scaled(raw), (scores - self._mean) / self._unit)
        self._process = process
        self.noise_ = self._unit * float(process.kernel_.k2.noise_level) ** 0.5
        return self

    def predict(self, batch: ArchitectureBatch) -> tuple[FloatArray, FloatArray]:
        """Expected score and its standard deviation without the noise of scoring, each (N,)."""
        means, variances = [], []
        for start in range(0, len(batch), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(batch)))
            points = self._scaled(features(batch.take(rows)))
            mean, projection = self._project(points)
            means.append(mean)
            variances.append(self._variance - np.einsum("mn,mn->n", projection, projection))
        mean = self._mean + self._unit * np.concatenate(means)
        return mean, self._unit * np.sqrt(np.maximum(np.concatenate(variances), 0))

    def expect(self, batch: ArchitectureBatch) -> FloatArray:
        """Expected score alone, (N,): a tenth of the work of :meth:`predict`."""
        means = [
            self._cross(self._scaled(features(batch.take(rows)))) @ self._process.alpha_
            for rows in np.array_split(np.arange(len(batch)), max(1, -(-len(batch) // _BLOCK)))
        ]
        return self._mean + self._unit * np.concatenate(means)

    def joint(self, batch: ArchitectureBatch) -> tuple[FloatArray, FloatArray]:
        """Expected scores, (N,), and their covariance without the noise of scoring, (N, N)."""
        points = self._scaled(features(batch))
        mean, projection = self._project(points)
        covariance = self._process.kernel_.k1(points) - projection.T @ projection
        return self._mean + self._unit * mean, self._unit**2 * covariance

    def _scaled(self, raw: FloatArray) -> FloatArray:
        """What the process sees of features: those that differ; one of zeros where none does."""
        scaled: FloatArray = ((raw - self._centre) / self._scale)[:, self._kept]
        return scaled if scaled.shape[1] else np.zeros((len(raw), 1))

    @property
    def _variance(self) -> float:
        """Of a score about which nothing is known."""
        return float(self._process.kernel_.k1.k1.constant_value)

    def _cross(self, points: FloatArray) -> FloatArray:
        """Covariance of N points with the M observations, (N, M), a few times faster than stock."""
        scales = self._process.kernel_.k1.k2.length_scale
        return self._variance * matern(points / scales, self._process.X_train_ / scales)

    def _project(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Posterior mean, (N,), and the observations' part in the variance, (M, N)."""
        process = self._process
        cross = self._cross(points)
        mean = cross @ process.alpha_
        projection = solve_triangular(
            process.L_, cross.T, lower=True, overwrite_b=True, check_finite=False
        )
        return mean, projection


def fit_predictor(
    scores: Mapping[Architecture, float],
    goals: Goals,
    seed: int,
    *,
    like: ScorePredictor | None = None,
) -> ScorePredictor:
    """A predictor of scores about the limits of goals, from those known, at least one.

    Args:
        like: tuned before; otherwise this one is, to at most a few hundred of the scores.
    """
    architectures, values = list(scores), np.array(list(scores.values()))
    most = _TUNED if like is None else _MAX_OBSERVATIONS
    if len(architectures) > most:
        distance = np.abs(np.log(goals.usage(architectures))).min(axis=0)
        nearest = np.sort(np.argsort(distance, kind="stable")[:most])
        architectures, values = [architectures[row] for row in nearest], values[nearest]
    return ScorePredictor(seed).fit(ArchitectureBatch.of(architectures), values, like=like)
