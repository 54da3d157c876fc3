"""LatencyPredictor: from a profile to milliseconds, for millions of architectures at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from latency.accuracy import PredictorErrors, accuracy, by_latency
from latency.calls import Subject, calls_of
from latency.kernels import SIZES
from latency.process import fit_posterior
from latency.profile import Profile
from latency.tables import ShapeTable
from latency.target import PERCENTILES, Target, Workload
from latency.terms import FloatArray, traffic_ms
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch, IntArray
from supernet.errors import NasError

_CONFIDENCE = 0.95  # of the margin in the error card
_FOLDS = 10

Architectures = ArchitectureBatch | Sequence[Architecture]


class LatencyPredictor:
    """Predicts the latency of architectures on the device and runtime of a profile.

    A model's latency is the sum of its kernels, each looked up in a table that the posterior
    (:mod:`latency.process`) fills; the cost of reading weights that outgrow a cache; and a
    correction, smooth in a few features of whole models. However poor the profile, no prediction
    is below the fastest time that was measured.

    Args:
        profile: a complete one.

    Attributes:
        posterior_: what kernels and models take, given all that counts in the profile.
        left_out_ms_: of each model drawn at random, its time predicted from measurements of
            others.
        p95_ratio_: the median p95 of the profile's models over their p50.

    Raises:
        NasError: the profile is not complete, holds no steady model, or was disturbed.

    Example: ``LatencyPredictor(Profile.load(path)).fit().predict(architectures)``
    """

    def __init__(self, profile: Profile) -> None:
        if not profile.complete:
            raise NasError("the latency profile is not complete; run the profiling to its end")
        profile.check_steady()
        if not any(isinstance(m.subject.what, Architecture) for m, _ in profile.counted):
            raise NasError("the latency profile holds no model that was measured steadily")
        self.profile = profile
        self.first_token_last_layer = profile.target.first_token_last_layer
        self._fastest_ms = min(ms.min() for ms in _steady_ms(profile).values())
        self._tables: dict[tuple[str, Workload], ShapeTable] = {}

    def fit(self) -> Self:
        """Fit to all that counts in the profile; a second or two."""
        steady = _steady_ms(self.profile)
        subjects = list(steady)
        times_ms = np.array([_geometric_mean(ms) for ms in steady.values()])
        counts = np.array([float(len(ms)) for ms in steady.values()])
        calls = calls_of(subjects, first_token_last_layer=self.first_token_last_layer)
        self.posterior_ = fit_posterior(calls, times_ms, noise=1 / counts)
        self.left_out_ms_: dict[Subject, float] = {}
        for rows in self._folds(subjects):
            predicted = self.posterior_.without(rows).predict(calls.take(rows))
            self.left_out_ms_ |= zip(
                [subjects[row] for row in rows], self._likely(predicted).tolist(), strict=True
            )
        models = [
            latency
            for one, latency in self.profile.counted
            if isinstance(one.subject.what, Architecture)
        ]
        self.p95_ratio_ = float(np.median([one.p95_at_pace_ms / one.steady_ms for one in models]))
        self._tables.clear()
        return self

    def predict(
        self, architectures: Architectures, percentile: int = 50, *, target: Target | None = None
    ) -> FloatArray:
        """Milliseconds at a percentile (50 or 95) on the undisturbed device, (N,).

        Args:
            target: holds the workload to predict for; None takes the profile's own. For a mix of
                lengths the prediction is the expected latency.

        Raises:
            NasError: another percentile, or a target that the profile does not serve.
        """
        ratio = self._ratio(percentile)
        target = target or self.profile.target
        self.profile.check_serves(target)
        batch = _batch(architectures)
        total = np.zeros(len(batch))
        for one, share in target.workloads():
            total += share * self._steady(batch, one.workload)
        return ratio * total

    def predict_upper(
        self,
        architectures: Architectures,
        confidence: float = 0.95,
        percentile: int = 50,
        *,
        target: Target | None = None,
    ) -> FloatArray:
        """Upper bounds: latencies are below them with probability ``confidence``, (N,).

        Raises:
            NasError: see :meth:`predict` and :meth:`margin`.
        """
        margin = self.margin(confidence, percentile)
        return self.predict(architectures, percentile, target=target) * (1 + margin)

    def margin(self, confidence: float = 0.95, percentile: int = 50) -> float:
        """Largest relative excess of a latency over its prediction, at a confidence.

        This is the conformal quantile (Vovk et al. 2005; with folds, Barber et al. 2021) of the
        relative errors on models drawn at random from the profile's spaces, each predicted from
        measurements of others. It holds approximately for another model drawn in the same way,
        for any distribution of errors.

        Raises:
            NasError: the number of drawn models does not support the confidence.
        """
        predicted, measured = self.held_out(percentile)
        errors = np.sort(measured / predicted - 1)
        rank = math.ceil((len(errors) + 1) * confidence)
        if not 0 < confidence < 1 or rank > len(errors):
            most = len(errors) / (len(errors) + 1)
            raise NasError(
                f"confidence must be above 0 and at most {most:.3f}, which {len(errors)} models "
                f"drawn at random support, not {confidence!r}"
            )
        return float(errors[max(rank, 1) - 1])

    @property
    def max_confidence(self) -> float:
        """The highest confidence that :meth:`margin` supports."""
        drawn = len(self.held_out(50)[0])
        return drawn / (drawn + 1)

    def errors(self) -> PredictorErrors:
        """Accuracy on the models drawn at random, each predicted from all other measurements."""
        predicted, measured = self.held_out(50)
        first, second = self.repeated()
        floor = accuracy(second, first)
        own = accuracy(predicted, measured)
        tells = self.max_confidence >= _CONFIDENCE
        return PredictorErrors(
            **own.to_dict(),
            margin_95_percent=100 * self.margin(_CONFIDENCE) if tells else None,
            floor_models=floor.models,
            floor_mape_percent=floor.mape_percent,
            floor_within_5_percent=floor.within_5_percent,
            floor_within_10_percent=floor.within_10_percent,
            by_latency=by_latency(predicted, measured),
        )

    # ---- what was measured --------------------------------------------------------------------

    def _folds(self, subjects: Sequence[Subject]) -> list[IntArray]:
        """Rows of the models drawn at random, in parts; each part is predicted from the rest."""
        drawn = {m.subject for m in self.profile.measurements if m.role == "drawn"}
        rows = np.array([row for row, one in enumerate(subjects) if one in drawn], dtype=np.int64)
        return [rows[part::_FOLDS] for part in range(min(_FOLDS, len(rows)))]

    def held_out(self, percentile: int = 50) -> tuple[FloatArray, FloatArray]:
        """Of models drawn at random: milliseconds predicted from others, and measured, (N,)."""
        ratio = self._ratio(percentile)
        measured: dict[Subject, float] = {}
        for one, latency in self.profile.counted:
            if one.role == "drawn":
                ms = latency.steady_ms if percentile == 50 else latency.p95_at_pace_ms
                measured.setdefault(one.subject, ms)
        predicted = np.array([self.left_out_ms_[subject] for subject in measured])
        return ratio * predicted, np.array(list(measured.values()))

    def repeated(self) -> tuple[FloatArray, FloatArray]:
        """Of models built and measured twice: the first time, and the second, (N,) each."""
        counted = self.profile.counted
        first = {m.subject: x.steady_ms for m, x in reversed(counted) if m.role == "drawn"}
        pairs = [
            (first[m.subject], x.steady_ms)
            for m, x in counted
            if m.role == "again" and m.subject in first
        ]
        ones, others = np.array(pairs).reshape(-1, 2).T
        return ones, others

    def _ratio(self, percentile: int) -> float:
        if percentile not in PERCENTILES:
            raise NasError(f"percentile must be 50 or 95, not {percentile!r}")
        return 1.0 if percentile == 50 else self.p95_ratio_

    # ---- many architectures -------------------------------------------------------------------

    def _steady(self, batch: ArchitectureBatch, workload: Workload) -> FloatArray:
        """Milliseconds for one workload, (N,)."""
        streamed, other = _megabytes(batch, workload, first_token=self.first_token_last_layer)
        *of_traffic, model_ms, layer_ms = self.posterior_.extras
        total = self._kernels(batch, workload)
        total += traffic_ms(streamed, other, np.array(of_traffic))
        total += model_ms + layer_ms * batch.num_layers
        return self._likely(total * (1 + self._level(batch, workload)))

    def _likely(self, times_ms: FloatArray) -> FloatArray:
        """Raise times to the fastest that was measured: a model takes longer than any kernel."""
        return np.maximum(times_ms, self._fastest_ms)

    def _kernels(self, batch: ArchitectureBatch, workload: Workload) -> FloatArray:
        """Milliseconds of the call and all kernels, (N,)."""
        hidden = batch.hidden_size
        total = self._table("embedding", workload)(hidden)
        total += self._table("head", workload)(hidden)
        total += self._call_ms(workload)
        sizes = [batch.num_heads, batch.qkv_size, batch.intermediate_size, batch.compression]
        if not self.first_token_last_layer:
            layers = self._layers("", workload, hidden[:, None], sizes)
            return total + batch.over_layers(layers)
        last = [batch.of_last(values) for values in sizes]
        total += self._layers("first_token_", workload, hidden, last)
        if not (batch.num_layers > 1).any():
            return total
        layers = self._layers("", workload, hidden[:, None], sizes)
        return total + batch.over_layers(layers, but_last=True)

    def _layers(
        self, prefix: str, workload: Workload, hidden: IntArray, sizes: Sequence[IntArray]
    ) -> FloatArray:
        """Milliseconds of both kernels of each layer; 0 where a layer is absent.

        Args:
            sizes: num_heads, qkv_size, intermediate_size and compression, which broadcast.
        """
        heads, qkv, intermediate, compression = sizes
        if not (compression > 1).any():
            attention = self._table(f"{prefix}attention", workload)
            feed_forward = self._table(f"{prefix}feed_forward", workload)
            return attention(hidden, heads, qkv) + feed_forward(hidden, intermediate)
        attention = self._table(f"{prefix}factored_attention", workload)
        feed_forward = self._table(f"{prefix}factored_feed_forward", workload)
        factored = compression * (compression > 1)
        times = attention(hidden, heads, qkv, factored)
        times += feed_forward(hidden, intermediate, factored)
        whole = compression == 1
        if whole.any():
            times += self._layers(prefix, workload, hidden, [values * whole for values in sizes])
        return times

    def _call_ms(self, workload: Workload) -> float:
        shape = np.array([workload], dtype=np.int64)
        return float(self.posterior_.kernel_ms("call", shape)[0])

    def _table(self, kind: str, workload: Workload) -> ShapeTable:
        key = (kind, workload)
        if key not in self._tables:

            def times(sizes: IntArray) -> FloatArray:
                if kind not in self.posterior_.coefficients:
                    raise NasError(
                        f"no model of the profile has the kernel {kind}, but a model to be "
                        "predicted has: profile a space of such models"
                    )
                workloads = np.broadcast_to(np.array(workload), (len(sizes), 2))
                return self.posterior_.kernel_ms(kind, np.hstack([workloads, sizes]))

            self._tables[key] = ShapeTable(times, len(SIZES[kind]))
        return self._tables[key]

    def _level(self, batch: ArchitectureBatch, workload: Workload) -> FloatArray:
        """What whole models take besides, relative, (N,).

        :meth:`latency.process.Posterior.level` is a parabola in the logarithm of the weights, so
        three of its values suffice.
        """
        tokens = math.log(workload.batch_size * workload.sequence_length)
        points = np.array([[-1.0, tokens], [0.0, tokens], [1.0, tokens]])
        below, middle, above = self.posterior_.level(points)
        x = np.log(4e-6 * batch.over_layers(batch.weights))
        return middle + x * (0.5 * (above - below) + x * (0.5 * (above + below) - middle))


def _steady_ms(profile: Profile) -> dict[Subject, FloatArray]:
    """Each subject's steady times."""
    times: dict[Subject, list[float]] = {}
    for one, latency in profile.counted:
        times.setdefault(one.subject, []).append(latency.steady_ms)
    return {subject: np.array(ms) for subject, ms in times.items()}


def _geometric_mean(values: FloatArray) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _megabytes(
    batch: ArchitectureBatch, workload: Workload, *, first_token: bool
) -> tuple[FloatArray, FloatArray]:
    """Megabytes of weights read for a single token, and of all others, (N,) each."""
    hidden = batch.hidden_size.astype(np.float64)
    weights = batch.weights
    layers = batch.over_layers(weights)
    tokens = workload.batch_size * workload.sequence_length
    head, embedding = 4e-6 * hidden**2, 4e-6 * hidden * tokens
    if not first_token:
        return head, embedding + 4e-6 * layers
    last = batch.of_last(weights)
    return head + 4e-6 * last, embedding + 4e-6 * (layers - last)


def _batch(architectures: Architectures) -> ArchitectureBatch:
    if isinstance(architectures, ArchitectureBatch):
        return architectures
    return ArchitectureBatch.of(architectures)
