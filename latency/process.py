"""A Gaussian process of sums: learns what kernels take from calls that hold several of them.

The time of call i is modelled as

    y_i = sum_k n_ik t(s_k) (1 + g(s_k)) + q_i + m_i h(x_i) + m_i e_i

with n_ik kernels of shape s_k; t, their prior time, a sum of terms (:mod:`latency.terms`) with
coefficients that are not negative; q, likewise, what reading weights past each cache costs, and
what a whole model takes to put its kernels together, at once and for each layer; g, how
far a shape is off its prior, a Gaussian process over sizes plus a deviation of the shape's own;
h, what whole models take besides, quadratic in a few features; e, noise. m_i is the prior mean,
sum n t + q. The coefficients are a first guess, each as uncertain as it is large. All of it is
linear in them, g, h and e, so a timed kernel and a timed model are the same kind of evidence,
conditioning is exact (Rasmussen and Williams 2006, ch. 2), and so is the uncertainty of what has
not been measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from latency.terms import (
    CACHES,
    STREAMED,
    FloatArray,
    coordinates,
    kernel_megabytes,
    kernel_terms,
    missed,
)
from supernet.batch import IntArray

_PRIOR = {"smooth": 0.03, "own": 0.02, "level": 0.02, "noise": 0.02}
"""Deviations before anything is measured: relative, half a power of e uncertain each way."""

_COEFFICIENT = 1.0  # relative deviation of each coefficient that is not zero
_LENGTH_SCALE = 1.2  # of a kind's range in each coordinate
_RANGE = (-8.0, 0.5)  # of the logarithm of a deviation
_OUTLIER = 3.0  # a residual of so many deviations has its noise raised to fit
_PASSES = 4  # for one outlier hides another, and raises all deviations


@dataclass(frozen=True)
class Calls:
    """What N calls hold.

    Args:
        shapes: by kind, the (U, 2 + D) distinct shapes that occur: batch size, sequence length,
            sizes.
        counts: by kind, (N, U) how many of each a call holds.
        features: (N, F) of whole models; whatever of others.
        depth: (N,) layers of whole models, 0 where a call is none.
    """

    shapes: Mapping[str, IntArray]
    counts: Mapping[str, FloatArray]
    features: FloatArray
    depth: FloatArray

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: IntArray) -> Calls:
        """The calls at ``rows``."""
        counts = {kind: count[rows] for kind, count in self.counts.items()}
        return Calls(self.shapes, counts, self.features[rows], self.depth[rows])

    @cached_property
    def is_model(self) -> Any:
        return self.depth > 0

    @cached_property
    def traffic(self) -> FloatArray:
        """(N, 2 caches) megabytes that each cache misses, of streamed kernels and of others."""
        of: dict[bool, FloatArray] = {True: np.zeros(len(self)), False: np.zeros(len(self))}
        for kind, shapes in self.shapes.items():
            of[kind in STREAMED] += self.counts[kind] @ kernel_megabytes(kind, shapes)
        return traffic(of[True], of[False])

    @property
    def extras(self) -> FloatArray:
        """(N, 2 caches + 2) what a call costs besides its kernels, for coefficients to weigh."""
        assembly = np.stack([self.is_model, self.depth], axis=1)
        return np.hstack([self.traffic, assembly])


def traffic(streamed_mb: FloatArray, other_mb: FloatArray) -> FloatArray:
    """Megabytes that each cache misses, (N, 2 caches): of streamed kernels, then of others."""
    shares = missed(streamed_mb + other_mb)
    return np.hstack([streamed_mb[:, None] * shares, other_mb[:, None] * shares])


def traffic_ms(
    streamed_mb: FloatArray, other_mb: FloatArray, coefficients: FloatArray
) -> FloatArray:
    """What :func:`traffic` costs, (N,), by milliseconds a megabyte, (2 caches,): most are zero."""
    total = np.maximum(streamed_mb + other_mb, 1e-9)
    of_streamed, of_other = np.split(coefficients, 2)
    cost = np.zeros(len(total))
    for cache in np.flatnonzero(of_streamed + of_other):
        paid = of_streamed[cache] * streamed_mb + of_other[cache] * other_mb
        cost += paid * np.maximum(0.0, 1 - CACHES[cache] / total)
    return cost


class SumProcess:
    """The process conditioned on timed calls.

    Attributes:
        coefficients_: of the terms, by kind, after conditioning.
        extras_: coefficients of :attr:`Calls.extras`: milliseconds a megabyte, a model, a layer.
        deviations_: the fitted standard deviations, relative: by kind of its smooth part and of
            each shape's own, then "level" and "noise".
        prior_ms_: prior means of the calls, (N,).
    """

    def fit(
        self,
        calls: Calls,
        times_ms: FloatArray,
        *,
        noise: FloatArray | None = None,
        learn: bool = True,
    ) -> Self:
        """Condition on ``calls`` that took ``times_ms``, (N,).

        Args:
            noise: variance of each call's noise over that of one measurement, (N,).
            learn: whether to fit the deviations to the data (maximum a posteriori), or to keep
                those assumed beforehand.
        """
        self._calls = calls
        base = np.ones(len(calls)) if noise is None else noise
        self._noise = base
        for repeat in range(_PASSES):
            if repeat:
                residuals, deviations = self.left_out()
                off = np.abs(residuals) / (_OUTLIER * deviations)
                self._noise = base * np.maximum(1.0, off) ** 2
            self._fit_prior(calls, times_ms)
            self._condition(times_ms, learn=learn)
        return self

    def without(self, rows: IntArray) -> SumProcess:
        """This process as it were had it not seen the calls at ``rows``; deviations are kept."""
        seen = np.setdiff1d(np.arange(len(self._calls)), rows)
        process, times_ms = SumProcess(), self._times_ms[seen]
        process._calls, process._noise = self._calls.take(seen), self._noise[seen]
        process._fit_prior(process._calls, times_ms)
        process._condition(times_ms, logs=self._logs)
        return process

    def shape_ms(self, kind: str, shapes: IntArray) -> FloatArray:
        """Milliseconds of one kernel of each shape, (U,)."""
        terms = kernel_terms(kind, shapes)
        times: FloatArray = terms @ self.coefficients_[kind]
        if kind in self._origin:
            shift = self._cross(kind, shapes) @ (self._weights[kind].T @ self._alpha)
            prior = terms @ self._guess[kind]
            times = np.maximum(times + prior * shift, 0.1 * prior)
        return times

    def level(self, features: FloatArray) -> FloatArray:
        """h, (N,), of whole models by their features, (N, F)."""
        shares: FloatArray = self._basis(features) @ self.level_coefficients_
        return shares

    @cached_property
    def level_coefficients_(self) -> FloatArray:
        """Of the basis of h, (1 + F + F (F + 1) / 2,)."""
        variance = self.deviations_["level"][0] ** 2
        return variance * (self._level.T @ self._alpha)

    def predict(self, calls: Calls) -> FloatArray:
        """Milliseconds of each call, (N,)."""
        total = calls.extras @ self.extras_
        for kind, shapes in calls.shapes.items():
            total = total + calls.counts[kind] @ self.shape_ms(kind, shapes)
        level = np.zeros(len(calls))
        level[calls.is_model] = self.level(calls.features[calls.is_model])
        times: FloatArray = total * (1 + level)
        return times

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """Of each call, predicted from all the others: relative residual and deviation, (N,) each.

        Which coefficients are zero, and the deviations, are those of all calls. The residual is
        measured less predicted, over the prior mean. (Rasmussen and Williams 2006, eq. 5.12.)
        """
        diagonal = np.diag(self._inverse)
        return self._alpha / diagonal, 1 / np.sqrt(diagonal)

    def gains(self, candidates: Calls, pool: Calls, count: int, cost: FloatArray) -> list[int]:
        """Which ``count`` candidates to measure next: greedily, for the pool's variance a cost.

        Each next is the one whose measurement lowers the mean predictive variance over the pool by
        most, over its cost (active learning by Cohn's criterion, 1996), given those before.

        Args:
            cost: (N,), positive.
        """
        cross, variance = self._posterior(candidates, pool)
        covariance, _ = self._posterior(candidates, candidates)
        noise = self.deviations_["noise"][0] ** 2
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

    # ---- the prior ----------------------------------------------------------------------------

    def _fit_prior(self, calls: Calls, times_ms: FloatArray) -> None:
        """Coefficients of the terms by least squares of the relative error, none negative."""
        from scipy.optimize import nnls

        kinds = list(calls.shapes)
        blocks = [calls.counts[kind] @ kernel_terms(kind, calls.shapes[kind]) for kind in kinds]
        terms = np.hstack([*blocks, calls.extras])
        scale = np.maximum(terms.max(axis=0), 1e-12)
        weighted = terms / scale / times_ms[:, None] / np.sqrt(self._noise)[:, None]
        solution, _ = nnls(weighted, 1 / np.sqrt(self._noise), maxiter=100 * terms.shape[1])
        pieces = np.split(solution / scale, np.cumsum([block.shape[1] for block in blocks]))
        self._guess = dict(zip(kinds, pieces[:-1], strict=True))
        self._guessed_extras = pieces[-1]
        self._least_ms = 0.1 * float(times_ms.min())  # noise may leave a kind of call with nothing
        self._origin, self._extent = {}, {}
        for kind in kinds:
            if kind != "call":
                points = coordinates(kind, calls.shapes[kind])
                self._origin[kind] = points.min(axis=0)
                self._extent[kind] = np.maximum(np.ptp(points, axis=0), 0.25)
        features = calls.features[calls.is_model]
        if len(features):
            self._mean = features.mean(axis=0)
            self._spread = np.maximum(features.std(axis=0), 0.25)
        else:
            self._mean, self._spread = np.zeros(calls.features.shape[1]), 1.0
        self.prior_ms_ = self._prior_ms(calls)
        self._weights = self._shares(calls)
        self._level = self._level_of(calls)
        self._terms = self._term_shares(calls)

    def _prior_ms(self, calls: Calls) -> FloatArray:
        total = calls.extras @ self._guessed_extras
        for kind, shapes in calls.shapes.items():
            prior = kernel_terms(kind, shapes) @ self._guess[kind]
            total = total + calls.counts[kind] @ prior
        return np.maximum(total, self._least_ms)

    def _term_shares(self, calls: Calls) -> FloatArray:
        """The share of a call's prior mean that each coefficient accounts for, (N, terms)."""
        columns = [
            calls.counts[kind] @ (kernel_terms(kind, calls.shapes[kind]) * guess)
            if kind in calls.shapes
            else np.zeros((len(calls), len(guess)))
            for kind, guess in self._guess.items()
        ]
        columns.append(calls.extras * self._guessed_extras)
        return np.hstack(columns) / self._prior_ms(calls)[:, None]

    def _shares(self, calls: Calls) -> dict[str, FloatArray]:
        """By kind, the share of a call's prior mean that is each shape's, (N, U)."""
        total = self._prior_ms(calls)
        return {
            kind: calls.counts[kind]
            * (kernel_terms(kind, calls.shapes[kind]) @ self._guess[kind])
            / total[:, None]
            for kind in calls.shapes
            if kind in self._origin
        }

    # ---- conditioning -------------------------------------------------------------------------

    def _condition(
        self, times_ms: FloatArray, *, learn: bool = False, logs: FloatArray | None = None
    ) -> None:
        """Fit the deviations, or take their logarithms as given; then all else follows."""
        self.__dict__.pop("level_coefficients_", None)
        self._times_ms = times_ms
        residuals = times_ms / self.prior_ms_ - 1
        names = [("smooth", kind) for kind in self._origin]
        names += [("own", kind) for kind in self._origin] + [("level", ""), ("noise", "")]
        parts = [self._part(*name) for name in names]
        start = np.log([_PRIOR[name] for name, _ in names])
        fixed = _COEFFICIENT**2 * self._terms @ self._terms.T
        if logs is None:
            logs = _most_probable(parts, fixed, residuals, start) if learn else start
        self._logs = logs
        self.deviations_ = {
            kind: tuple(
                float(np.exp(x)) for x, (_, k) in zip(logs, names, strict=True) if k == kind
            )
            for kind in self._origin
        }
        self.deviations_ |= {
            name: (float(np.exp(x)),)
            for x, (name, kind) in zip(logs, names, strict=True)
            if not kind
        }
        covariance = fixed + sum(np.exp(2 * x) * p for x, p in zip(logs, parts, strict=True))
        self._inverse = np.linalg.inv(covariance)
        self._alpha = self._inverse @ residuals
        self._settle_coefficients()

    def _settle_coefficients(self) -> None:
        """Their posterior means; none may become negative."""
        shift = _COEFFICIENT**2 * (self._terms.T @ self._alpha)
        sizes = [len(guess) for guess in self._guess.values()]
        *pieces, extras = np.split(np.maximum(1 + shift, 0.0), np.cumsum(sizes))
        self.coefficients_ = {
            kind: guess * piece
            for (kind, guess), piece in zip(self._guess.items(), pieces, strict=True)
        }
        self.extras_ = self._guessed_extras * extras

    def _part(self, name: str, kind: str) -> FloatArray:
        """What the calls' covariance has of one variance, (N, N), for a variance of one."""
        if name == "noise":
            return np.diag(self._noise)
        if name == "level":
            return self._level @ self._level.T
        weights = self._weights[kind]
        if name == "own":
            return weights @ weights.T
        points = self._points(kind, self._calls.shapes[kind])
        return weights @ _matern(points, points) @ weights.T

    def _posterior(self, first: Calls, second: Calls) -> tuple[FloatArray, FloatArray]:
        """Given what was measured: covariance of two sets, (N, M); the first's variance, (N,)."""
        to_first, to_second = self._with_measured(first), self._with_measured(second)
        covariance = self._between(first, second) - to_first @ self._inverse @ to_second.T
        before = self._between(first, first).diagonal()
        variance = before - np.einsum("ij,ij->i", to_first @ self._inverse, to_first)
        return covariance, np.maximum(variance, 0.0)

    def _with_measured(self, calls: Calls) -> FloatArray:
        return self._between(calls, self._calls)

    def _between(self, first: Calls, second: Calls) -> FloatArray:
        """Prior covariance of the relative times of two sets of calls, noise left out, (N, M)."""
        level = self.deviations_["level"][0] ** 2
        covariance = level * self._level_of(first) @ self._level_of(second).T
        terms = self._term_shares(first) @ self._term_shares(second).T
        covariance = covariance + _COEFFICIENT**2 * terms
        ours, theirs = self._shares(first), self._shares(second)
        for kind in ours.keys() & theirs.keys():
            shapes, others = first.shapes[kind], second.shapes[kind]
            smooth, own = self.deviations_[kind]
            kernel = smooth**2 * _matern(self._points(kind, shapes), self._points(kind, others))
            kernel += own**2 * _equal(shapes, others)
            covariance = covariance + ours[kind] @ kernel @ theirs[kind].T
        return covariance

    def _cross(self, kind: str, shapes: IntArray) -> FloatArray:
        """Covariance of shapes' deviations with those of the measured ones, (U, measured)."""
        smooth, own = self.deviations_[kind]
        measured = self._calls.shapes[kind]
        kernel = smooth**2 * _matern(self._points(kind, shapes), self._points(kind, measured))
        return kernel + own**2 * _equal(shapes, measured)

    def _points(self, kind: str, shapes: IntArray) -> FloatArray:
        points: FloatArray = coordinates(kind, shapes) - self._origin[kind]
        return points / self._extent[kind] / _LENGTH_SCALE

    def _level_of(self, calls: Calls) -> FloatArray:
        level = np.zeros((len(calls), _basis_size(calls.features.shape[1])))
        level[calls.is_model] = self._basis(calls.features[calls.is_model])
        return level

    def _basis(self, features: FloatArray) -> FloatArray:
        """One, the features to zero mean and unit deviation, and half their products, (N, B)."""
        scaled = (features - self._mean) / self._spread
        first, second = np.triu_indices(features.shape[1])
        one = np.ones((len(features), 1))
        return np.hstack([one, scaled, 0.5 * scaled[:, first] * scaled[:, second]])


def _basis_size(features: int) -> int:
    return 1 + features + features * (features + 1) // 2


def _matern(first: FloatArray, second: FloatArray) -> FloatArray:
    """Matern covariance of smoothness 5/2, (N, M)."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    distance = np.sqrt(5 * np.maximum(squares, 0.0))
    covariance: FloatArray = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return covariance


def _equal(first: IntArray, second: IntArray) -> FloatArray:
    """1 where two shapes are the same, (N, M)."""
    _, codes = np.unique(np.vstack([first, second]), axis=0, return_inverse=True)
    ours, theirs = np.split(codes.reshape(-1), [len(first)])
    return (ours[:, None] == theirs).astype(np.float64)


def _most_probable(
    parts: list[FloatArray], fixed: FloatArray, residuals: FloatArray, start: FloatArray
) -> FloatArray:
    """Logarithms of the deviations of ``parts`` that make ``residuals`` most probable.

    Each has a normal prior of unit deviation about ``start``; ``fixed`` is the covariance's rest.
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.optimize import minimize

    identity = np.eye(len(residuals))

    def objective(logs: FloatArray) -> tuple[float, FloatArray]:
        covariance = fixed + sum(np.exp(2 * x) * p for x, p in zip(logs, parts, strict=True))
        factor = cho_factor(covariance, lower=True)
        inverse = cho_solve(factor, identity)
        alpha = inverse @ residuals
        away = logs - start
        value = 0.5 * residuals @ alpha + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        slope = inverse - np.outer(alpha, alpha)
        gradient = [np.exp(2 * x) * np.sum(slope * p) for x, p in zip(logs, parts, strict=True)]
        return float(value), np.array(gradient) + away

    bounds = [_RANGE] * len(start)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds,
                     options={"maxiter": 60})  # fmt: skip
    best: FloatArray = found.x
    return best
