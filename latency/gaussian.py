"""Gaussian processes of any covariance: conditioning on noisy values, and fitting scales.

After Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Conditioned:
    """A process of zero mean, given noisy values at N points.

    Args:
        inverse: inverse of the values' covariance, noise included, (N, N).
        weights: the inverse times the values, (N,).
    """

    inverse: FloatArray
    weights: FloatArray

    @classmethod
    def on(cls, covariance: FloatArray, values: FloatArray) -> Self:
        """Condition on values, (N,), of this covariance, noise included, (N, N)."""
        inverse = np.asarray(np.linalg.inv(covariance), np.float64)
        return cls(inverse, inverse @ values)

    def covariance(self, between: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
        """Posterior covariance of M points with K points, (M, K); equation 2.24.

        Args:
            between: their prior covariance, (M, K).
            first, second: prior covariances of each set with the N given points.
        """
        found: FloatArray = between - first @ self.inverse @ second.T
        return found

    def variance(self, before: FloatArray, cross: FloatArray) -> FloatArray:
        """Posterior variance of M points, (M,).

        Args:
            before: their prior variance, (M,).
            cross: their prior covariance with the N given points, (M, N).
        """
        explained = np.einsum("ij,ij->i", cross @ self.inverse, cross)
        return np.maximum(before - explained, 0.0)

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """Residual and standard deviation of each value given all others, (N,) each; eq. 5.12."""
        diagonal = np.diag(self.inverse)
        return self.weights / diagonal, 1 / np.sqrt(diagonal)


def matern(first: FloatArray, second: FloatArray) -> FloatArray:
    """Matern covariance of smoothness 5/2 between M and K points, (M, K); equation 4.17.

    Args:
        first, second: the points in units of the length scale, (M, D) and (K, D).
    """
    # Computed in place: a search predicts for millions of pairs.
    squares = first @ second.T
    squares *= -2
    squares += (first**2).sum(axis=1)[:, None]
    squares += (second**2).sum(axis=1)
    np.maximum(squares, 0.0, out=squares)
    squares *= 5
    distance = np.sqrt(squares)
    squares /= 3
    squares += distance
    squares += 1
    np.negative(distance, out=distance)
    covariance: FloatArray = np.multiply(squares, np.exp(distance, out=distance), out=squares)
    return covariance


def most_probable_scales(
    parts: Sequence[FloatArray],
    fixed: FloatArray,
    values: FloatArray,
    start: FloatArray,
    bounds: tuple[float, float],
) -> FloatArray:
    """Logarithms of the standard deviations of ``parts`` that make ``values`` most probable, (P,).

    The values' covariance is ``fixed`` plus the sum of the parts, each times its variance. Each
    logarithm has a normal prior of unit deviation about ``start`` (maximum a posteriori).

    Args:
        parts: P covariances of the values for a variance of one, (N, N) each.
        fixed: the rest of the covariance, (N, N).
        values: (N,)
        start: (P,)
        bounds: least and greatest logarithm.
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.optimize import minimize

    identity = np.eye(len(values))

    def objective(logs: FloatArray) -> tuple[float, FloatArray]:
        covariance = fixed + sum(np.exp(2 * x) * p for x, p in zip(logs, parts, strict=True))
        factor = cho_factor(covariance, lower=True)
        inverse = cho_solve(factor, identity)
        weights = inverse @ values
        away = logs - start
        value = 0.5 * values @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        slope = inverse - np.outer(weights, weights)
        gradient = [np.exp(2 * x) * np.sum(slope * p) for x, p in zip(logs, parts, strict=True)]
        return float(value), np.array(gradient) + away

    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[bounds] * len(start),
        options={"maxiter": 60},
    )
    best: FloatArray = found.x
    return best
