"""Prior: what a call is expected to take before its own measurement, and how uncertain that is.

The time of call i is modelled as

    y_i = sum_k n_ik t(s_k) (1 + g(s_k)) + q_i + m_i h(x_i) + m_i e_i

- n_ik: how many kernels of shape s_k the call holds.
- t: a kernel's prior time, a sum of terms (:mod:`latency.terms`) with coefficients of at least 0.
- q: what the call costs besides, likewise a sum: weights read past each cache, and for a whole
  model a constant and a cost for each layer.
- g: how far a shape is off its prior time: a Gaussian process over sizes, plus a deviation of the
  shape's own.
- h: what whole models take besides, quadratic in a few features.
- e: noise.
- m_i: the prior mean, sum n t + q.

Each coefficient is as uncertain as it is large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from latency.calls import Calls
from latency.gaussian import matern, most_probable_scales
from latency.terms import FloatArray, coordinates, kernel_terms
from supernet.batch import IntArray

_COEFFICIENT = 1.0  # relative deviation of each coefficient that is not zero
_LENGTH_SCALE = 1.2  # of a kind's range in each coordinate
_BOUNDS = (-8.0, 0.5)  # of the logarithm of a deviation


@dataclass(frozen=True)
class Deviations:
    """Standard deviations, relative to the prior mean.

    Before anything is learnt, each may be e times larger or smaller.

    Args:
        smooth: by kind of kernel, of the Gaussian process over sizes.
        own: by kind of kernel, of each shape's own deviation.
        level: of each coefficient of what whole models take besides.
        noise: of one measurement.
    """

    smooth: Mapping[str, float]
    own: Mapping[str, float]
    level: float = 0.02
    noise: float = 0.02

    @classmethod
    def assumed(cls, kinds: list[str]) -> Deviations:
        """The deviations before anything is learnt."""
        return cls(dict.fromkeys(kinds, 0.03), dict.fromkeys(kinds, 0.02))


@dataclass(frozen=True)
class Prior:
    """Means and covariance of calls' times before they are measured.

    Args:
        coefficients: by kind, milliseconds of each of its terms.
        extras: milliseconds of each of :attr:`latency.calls.Calls.extras`.
        least_ms: the least prior mean, for a kind of call may be left without a coefficient.
        scales: by kind with sizes, the least coordinates and the extent of the coordinates.
        centre, spread: of the features of whole models.
        deviations: how uncertain all this is.
    """

    coefficients: Mapping[str, FloatArray]
    extras: FloatArray
    least_ms: float
    scales: Mapping[str, tuple[FloatArray, FloatArray]]
    centre: FloatArray
    spread: FloatArray
    deviations: Deviations = field(repr=False)

    @classmethod
    def fit(cls, calls: Calls, times_ms: FloatArray, noise: FloatArray) -> Prior:
        """Coefficients by least squares of the relative error, with the assumed deviations.

        Args:
            times_ms: what the calls took, (N,).
            noise: variance of each call's noise over that of one measurement, (N,).
        """
        from scipy.optimize import nnls

        kinds = list(calls.shapes)
        blocks = [calls.counts[kind] @ kernel_terms(kind, calls.shapes[kind]) for kind in kinds]
        terms = np.hstack([*blocks, calls.extras])
        scale = np.maximum(terms.max(axis=0), 1e-12)
        weighted = terms / scale / times_ms[:, None] / np.sqrt(noise)[:, None]
        solution, _ = nnls(weighted, 1 / np.sqrt(noise), maxiter=100 * terms.shape[1])
        pieces = np.split(solution / scale, np.cumsum([block.shape[1] for block in blocks]))
        scales = {}
        for kind in (kind for kind in kinds if kind != "call"):
            points = coordinates(kind, calls.shapes[kind])
            scales[kind] = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 0.25)
        features = calls.features[calls.is_model]
        return cls(
            coefficients=dict(zip(kinds, pieces[:-1], strict=True)),
            extras=pieces[-1],
            least_ms=0.1 * float(times_ms.min()),
            scales=scales,
            centre=features.mean(axis=0) if len(features) else np.zeros(features.shape[1]),
            spread=(
                np.maximum(features.std(axis=0), 0.25)
                if len(features)
                else np.ones(features.shape[1])
            ),
            deviations=Deviations.assumed(list(scales)),
        )

    def learnt(self, calls: Calls, times_ms: FloatArray, noise: FloatArray) -> Prior:
        """This prior with the deviations that make the measured times most probable.

        Args: as of :meth:`fit`.
        """
        kinds = list(self.scales)
        shares, terms, basis = self.shares(calls), self.term_shares(calls), self.basis(calls)
        points = {kind: self.points(kind, calls.shapes[kind]) for kind in kinds}
        parts = [shares[k] @ matern(points[k], points[k]) @ shares[k].T for k in kinds]
        parts += [shares[kind] @ shares[kind].T for kind in kinds]
        parts += [basis @ basis.T, np.diag(noise)]
        before = self.deviations
        start = [*before.smooth.values(), *before.own.values(), before.level, before.noise]
        logs = most_probable_scales(
            parts,
            _COEFFICIENT**2 * terms @ terms.T,
            times_ms / self.times_ms(calls) - 1,
            np.log(start),
            _BOUNDS,
        )
        *of_kinds, level, noise_of_one = map(float, np.exp(logs))
        smooth, own = of_kinds[: len(kinds)], of_kinds[len(kinds) :]
        found = Deviations(
            dict(zip(kinds, smooth, strict=True)),
            dict(zip(kinds, own, strict=True)),
            level,
            noise_of_one,
        )
        return replace(self, deviations=found)

    # ---- means --------------------------------------------------------------------------------

    def times_ms(self, calls: Calls) -> FloatArray:
        """Prior means of calls, (N,)."""
        total = calls.extras @ self.extras
        for kind, shapes in calls.shapes.items():
            total = total + calls.counts[kind] @ self.kernel_ms(kind, shapes)
        return np.maximum(total, self.least_ms)

    def kernel_ms(self, kind: str, shapes: IntArray) -> FloatArray:
        """Prior means of one kernel of each shape, (U,)."""
        times: FloatArray = kernel_terms(kind, shapes) @ self.coefficients[kind]
        return times

    def shares(self, calls: Calls) -> dict[str, FloatArray]:
        """By kind with sizes, the share of a call's prior mean that each shape has, (N, U)."""
        total = self.times_ms(calls)[:, None]
        return {
            kind: calls.counts[kind] * self.kernel_ms(kind, shapes) / total
            for kind, shapes in calls.shapes.items()
            if kind in self.scales
        }

    def term_shares(self, calls: Calls) -> FloatArray:
        """The share of a call's prior mean that each coefficient accounts for, (N, terms)."""
        columns = [
            calls.counts[kind] @ (kernel_terms(kind, calls.shapes[kind]) * coefficients)
            if kind in calls.shapes
            else np.zeros((len(calls), len(coefficients)))
            for kind, coefficients in self.coefficients.items()
        ]
        columns.append(calls.extras * self.extras)
        return np.hstack(columns) / self.times_ms(calls)[:, None]

    def basis(self, calls: Calls) -> FloatArray:
        """The basis functions of h, (N, B): 0 where a call is no whole model."""
        found = np.zeros((len(calls), self.level_basis(calls.features[:1]).shape[1]))
        found[calls.is_model] = self.level_basis(calls.features[calls.is_model])
        return found

    def level_basis(self, features: FloatArray) -> FloatArray:
        """One, the features to zero mean and unit deviation, and half their products, (N, B)."""
        scaled = (features - self.centre) / self.spread
        first, second = np.triu_indices(features.shape[1])
        one = np.ones((len(features), 1))
        return np.hstack([one, scaled, 0.5 * scaled[:, first] * scaled[:, second]])

    # ---- covariance ---------------------------------------------------------------------------

    def covariance(self, first: Calls, second: Calls) -> FloatArray:
        """Covariance of the relative times of two sets of calls, noise left out, (N, M)."""
        level = self.deviations.level**2 * self.basis(first) @ self.basis(second).T
        terms = self.term_shares(first) @ self.term_shares(second).T
        covariance: FloatArray = level + _COEFFICIENT**2 * terms
        ours, theirs = self.shares(first), self.shares(second)
        for kind in ours.keys() & theirs.keys():
            between = self.kernel_covariance(kind, first.shapes[kind], second.shapes[kind])
            covariance = covariance + ours[kind] @ between @ theirs[kind].T
        return covariance

    def coefficient_changes(self, calls: Calls, weights: FloatArray) -> FloatArray:
        """Posterior mean of each coefficient over its prior mean, (terms,); none is below 0.

        Args:
            weights: of the calls (:class:`latency.gaussian.Conditioned`), (N,).
        """
        return np.maximum(1 + _COEFFICIENT**2 * (self.term_shares(calls).T @ weights), 0.0)

    def kernel_covariance(self, kind: str, first: IntArray, second: IntArray) -> FloatArray:
        """Covariance of how far two sets of shapes are off their prior times, (U, V)."""
        smooth, own = self.deviations.smooth[kind], self.deviations.own[kind]
        points, others = self.points(kind, first), self.points(kind, second)
        return smooth**2 * matern(points, others) + own**2 * _equal(first, second)

    def points(self, kind: str, shapes: IntArray) -> FloatArray:
        """Coordinates of shapes in length scales, (U, C)."""
        least, extent = self.scales[kind]
        points: FloatArray = (coordinates(kind, shapes) - least) / extent / _LENGTH_SCALE
        return points


def _equal(first: IntArray, second: IntArray) -> FloatArray:
    """1 where two shapes are the same, (N, M)."""
    _, codes = np.unique(np.vstack([first, second]), axis=0, return_inverse=True)
    ours, theirs = np.split(codes.reshape(-1), [len(first)])
    return (ours[:, None] == theirs).astype(np.float64)
