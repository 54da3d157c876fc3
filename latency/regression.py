"""Regressions on few, positive measurements, fitted to relative error."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_GAUSSIAN_MINIMUM = 10  # with fewer points its length scales would be guesses


class KernelRegressor:
    """Milliseconds of one kind of kernel from its sizes.

    The mean is a sum of terms that hardware spends time on (:func:`kernel_terms`), with
    coefficients that are not negative, by least squares of the relative error. What it leaves, in
    logarithms, is a Gaussian process over the logarithms of the sizes: it bends the mean where
    measurements say so, and leaves it alone far from them. Fewer than ten points have none.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def fit(self, sizes: NDArray[np.int64], times_ms: FloatArray) -> Self:
        """Fit to kernels of ``sizes``, (N, D), that took ``times_ms``, (N,)."""
        from scipy.optimize import nnls

        terms = kernel_terms(self.kind, sizes)
        self.coefficients_, _ = nnls(terms / times_ms[:, None], np.ones(len(times_ms)))
        logs = np.log(sizes)
        self.origin_ = logs.min(axis=0)
        self.extent_ = np.maximum(np.ptp(logs, axis=0), 1e-9)
        self.process_: Any = None
        if len(times_ms) >= _GAUSSIAN_MINIMUM:
            residuals = np.log(times_ms / (terms @ self.coefficients_))
            self.process_ = _gaussian_process(sizes.shape[1])
            with warnings.catch_warnings():  # a length scale at its bound: a size of no influence
                warnings.simplefilter("ignore")
                self.process_.fit(self._scaled(sizes), residuals)
        return self

    def predict(self, sizes: NDArray[np.int64]) -> FloatArray:
        """Milliseconds, (N,), for ``sizes``, (N, D)."""
        times_ms: FloatArray = kernel_terms(self.kind, sizes) @ self.coefficients_
        if self.process_ is not None:
            times_ms = times_ms * np.exp(self.process_.predict(self._scaled(sizes)))
        return times_ms

    def _scaled(self, sizes: NDArray[np.int64]) -> FloatArray:
        scaled: FloatArray = (np.log(sizes) - self.origin_) / self.extent_
        return scaled


class RatioRegressor:
    """What whole models take over the sum of their kernels, from a few features.

    Ridge regression of the ratio's logarithm on the features and their products; outside the
    range of what it was fitted to, features count as the nearest of that range.
    """

    def fit(self, features: FloatArray, ratios: FloatArray) -> Self:
        """Fit to models of ``features``, (N, D), that took ``ratios``, (N,), times the sum."""
        self.low_, self.high_ = features.min(axis=0), features.max(axis=0)
        terms = self._products(features)
        self.mean_, self.deviation_ = terms.mean(axis=0), np.maximum(terms.std(axis=0), 1e-9)
        scaled = (terms - self.mean_) / self.deviation_
        target = np.log(ratios)
        self.intercept_ = float(target.mean())
        penalty = np.eye(scaled.shape[1])  # of one, beside columns of unit variance
        self.coefficients_ = np.linalg.solve(
            scaled.T @ scaled + penalty, scaled.T @ (target - self.intercept_)
        )
        return self

    def predict(self, features: FloatArray) -> FloatArray:
        """Ratios, (N,)."""
        terms = self._products(np.clip(features, self.low_, self.high_))
        scaled = (terms - self.mean_) / self.deviation_
        ratios: FloatArray = np.exp(self.intercept_ + scaled @ self.coefficients_)
        return ratios

    def _products(self, features: FloatArray) -> FloatArray:
        """The features, scaled to [0, 1], and their products by twos, squares included."""
        scaled = (features - self.low_) / np.maximum(self.high_ - self.low_, 1e-9)
        first, second = np.triu_indices(features.shape[1])
        return np.hstack([scaled, scaled[:, first] * scaled[:, second]])


def kernel_terms(kind: str, sizes: NDArray[np.int64]) -> FloatArray:
    """What a kernel's time grows with, (N, terms).

    A fixed part; the hidden size, for normalization and residual; then for attention the widths
    of scores and projections, for a feed-forward network its activation and products. Sequence
    and batch are the target's, so they are in the coefficients.
    """
    values = sizes.astype(np.float64)
    hidden, one = values[:, 0], np.ones(len(values))
    if kind == "embedding":
        terms = [one, hidden]
    elif kind == "head":
        terms = [one, hidden, hidden**2]
    elif kind.endswith("attention"):
        heads, qkv = values[:, 1], values[:, 2]
        terms = [one, hidden, heads, qkv, hidden * qkv, hidden * heads]
    else:
        intermediate = values[:, 1]
        terms = [one, hidden, intermediate, hidden * intermediate]
    return np.stack(terms, axis=1)


def _gaussian_process(dimensions: int) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    smooth = ConstantKernel(1e-2, (1e-5, 1.0)) * RBF(np.ones(dimensions), (0.1, 10.0))
    noise = WhiteKernel(1e-3, (1e-6, 1e-1))
    return GaussianProcessRegressor(smooth + noise)
