"""Posterior: what kernels and calls take, learnt from calls that hold several kernels each.

The model (:mod:`latency.prior`) is linear in all that is uncertain. So a timed kernel and a timed
model are the same kind of evidence, conditioning on both is exact, and so is the uncertainty of
what has not been measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from latency.calls import Calls
from latency.gaussian import Conditioned
from latency.prior import Prior
from latency.terms import FloatArray, kernel_terms
from supernet.batch import IntArray

_OUTLIER = 3.0  # a residual of so many deviations has its noise raised to fit
_PASSES = 4  # an outlier hides another, and raises all deviations


@dataclass(frozen=True)
class Posterior:
    """A prior conditioned on timed calls.

    Args:
        prior: before the calls were timed.
        calls, times_ms: what was timed, and the milliseconds, (N,).
        noise: variance of each call's noise over that of one measurement, (N,); raised for
            outliers.
        given: the Gaussian process of relative times, given those measured.
        coefficients: by kind, milliseconds of each of its terms.
        extras: milliseconds of each of :attr:`latency.calls.Calls.extras`.
        level_coefficients: of the basis of what whole models take besides.
        shifts: by kind, what each measured shape contributes to how far others are off, (U,).
    """

    prior: Prior
    calls: Calls = field(repr=False)
    times_ms: FloatArray = field(repr=False)
    noise: FloatArray = field(repr=False)
    given: Conditioned = field(repr=False)
    coefficients: Mapping[str, FloatArray]
    extras: FloatArray
    level_coefficients: FloatArray
    shifts: Mapping[str, FloatArray] = field(repr=False)

    @classmethod
    def of(cls, prior: Prior, calls: Calls, times_ms: FloatArray, noise: FloatArray) -> Posterior:
        """Condition ``prior`` on calls that took ``times_ms``."""
        variance = prior.deviations.noise**2 * noise
        given = Conditioned.on(
            prior.covariance(calls, calls) + np.diag(variance),
            times_ms / prior.times_ms(calls) - 1,
        )
        sizes = [len(one) for one in prior.coefficients.values()]
        *changes, extras = np.split(
            prior.coefficient_changes(calls, given.weights), np.cumsum(sizes)
        )
        return cls(
            prior,
            calls,
            times_ms,
            noise,
            given,
            coefficients={
                kind: coefficients * change
                for (kind, coefficients), change in zip(
                    prior.coefficients.items(), changes, strict=True
                )
            },
            extras=prior.extras * extras,
            level_coefficients=prior.deviations.level**2 * (prior.basis(calls).T @ given.weights),
            shifts={kind: one.T @ given.weights for kind, one in prior.shares(calls).items()},
        )

    def without(self, rows: IntArray) -> Posterior:
        """The posterior had the calls at ``rows`` not been timed; deviations are kept."""
        seen = np.setdiff1d(np.arange(len(self.calls)), rows)
        calls, times_ms, noise = self.calls.take(seen), self.times_ms[seen], self.noise[seen]
        prior = replace(Prior.fit(calls, times_ms, noise), deviations=self.prior.deviations)
        return Posterior.of(prior, calls, times_ms, noise)

    def kernel_ms(self, kind: str, shapes: IntArray) -> FloatArray:
        """Milliseconds of one kernel of each shape, (U,)."""
        terms = kernel_terms(kind, shapes)
        before = terms @ self.prior.coefficients[kind]
        times: FloatArray = terms @ self.coefficients[kind]
        if kind in self.shifts:
            cross = self.prior.kernel_covariance(kind, shapes, self.calls.shapes[kind])
            times = np.maximum(times + before * (cross @ self.shifts[kind]), 0.1 * before)
        return times

    def level(self, features: FloatArray) -> FloatArray:
        """What whole models take besides, relative, (N,), by their features, (N, F)."""
        shares: FloatArray = self.prior.level_basis(features) @ self.level_coefficients
        return shares

    def predict(self, calls: Calls) -> FloatArray:
        """Milliseconds of each call, (N,)."""
        total = calls.extras @ self.extras
        for kind, shapes in calls.shapes.items():
            total = total + calls.counts[kind] @ self.kernel_ms(kind, shapes)
        level = np.zeros(len(calls))
        level[calls.is_model] = self.level(calls.features[calls.is_model])
        times: FloatArray = total * (1 + level)
        return times

    def uncertainty(self, first: Calls, second: Calls) -> tuple[FloatArray, FloatArray]:
        """Covariance of the relative times of two sets, (N, M), and the first's variance, (N,)."""
        of_first = self.prior.covariance(first, self.calls)
        of_second = self.prior.covariance(second, self.calls)
        before = self.prior.covariance(first, first).diagonal()
        return (
            self.given.covariance(self.prior.covariance(first, second), of_first, of_second),
            self.given.variance(before, of_first),
        )

    def gains(self, candidates: Calls, pool: Calls, count: int, cost: FloatArray) -> list[int]:
        """Rows of the ``count`` candidates to measure next, in order.

        Each next one lowers the mean predictive variance over the pool the most for its cost,
        given those before it (active learning by Cohn's criterion, 1996).

        Args:
            cost: of measuring each candidate, (N,), positive.
        """
        cross, variance = self.uncertainty(candidates, pool)
        covariance, _ = self.uncertainty(candidates, candidates)
        noise = self.prior.deviations.noise**2
        chosen: list[int] = []
        for _ in range(min(count, len(candidates))):
            gain = (cross**2).mean(axis=1) / (variance + noise) / cost
            gain[chosen] = -1.0
            best = int(gain.argmax())
            chosen.append(best)
            scale = 1 / (variance[best] + noise)
            column = covariance[:, best].copy()
            cross = cross - scale * column[:, None] * cross[best]
            covariance = covariance - scale * np.outer(column, column)
            variance = np.maximum(np.diag(covariance), 0.0)
        return chosen


def fit_posterior(
    calls: Calls, times_ms: FloatArray, *, noise: FloatArray | None = None, learn: bool = True
) -> Posterior:
    """Fit a prior to timed calls and condition it on them.

    Calls whose residual is large, predicted from all others, count as noisier, and all is fitted
    again.

    Args:
        times_ms: what the calls took, (N,).
        noise: variance of each call's noise over that of one measurement, (N,); None for ones.
        learn: whether the deviations are learnt from the times, or kept as assumed.
    """
    base = np.ones(len(calls)) if noise is None else noise

    def fitted(noise: FloatArray) -> Posterior:
        prior = Prior.fit(calls, times_ms, noise)
        if learn:
            prior = prior.learnt(calls, times_ms, noise)
        return Posterior.of(prior, calls, times_ms, noise)

    posterior = fitted(base)
    for _ in range(_PASSES - 1):
        residuals, deviations = posterior.given.left_out()
        off = np.abs(residuals) / (_OUTLIER * deviations)
        posterior = fitted(base * np.maximum(1.0, off) ** 2)
    return posterior
