"""LatencyPredictor: from a profile to milliseconds, for millions of architectures at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from latency.accuracy import PredictorErrors, accuracy, by_latency
from latency.calls import Subject, calls_of
from latency.kernels import SIZES
from latency.process import SumProcess, traffic_ms
from latency.profile import Profile
from latency.tables import ShapeTable
from latency.target import PERCENTILES, Target, Workload
from latency.terms import FloatArray
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch, IntArray
from supernet.errors import NasError

_CONFIDENCE = 0.95  # of the margin in the error card
_FOLDS = 10

Architectures = ArchitectureBatch | Sequence[Architecture]


class LatencyPredictor:
    """Predicts the latency of architectures on the device and runtime of a profile.

    A model takes the sum of its kernels, each read from a table that the process fitted to all
    measured kernels and models fills (:mod:`latency.process`); what reading its weights costs where
    they outgrow a cache; and a correction, smooth in a few features of whole models. However poor
    the profile, nothing is predicted to be faster than the fastest kernel that was measured.

    Args:
        profile: a complete one.

    Attributes:
        process_: the fitted process.
        p95_ratio_: the median p95 of the profile's models over their p50.

    Raises:
        NasError: the profile is not complete, holds no model, or was disturbed.

    Example: ``LatencyPredictor(Profile.load(path)).fit().predict(architectures)``
    """

    def __init__(self, profile: Profile) -> None:
        if not profile.complete:
            raise NasError("the latency profile is not complete; run the profiling to its end")
        profile.check_steady()
        self.profile = profile
        self.first_token_last_layer = profile.target.runtime == "onnxruntime"

    def fit(self, *, learn: bool = True) -> Self:
        """Fit to all that counts in the profile; a second or two.

        Args:
            learn: see :meth:`latency.process.SumProcess.fit`.
        """
        subjects, self._steady_ms, count = _distinct(self.profile)
        self._fastest_ms = float(self._steady_ms.min())
        self._row = {subject: row for row, subject in enumerate(subjects)}
        calls = calls_of(subjects, first_token_last_layer=self.first_token_last_layer)
        if not calls.is_model.any():
            raise NasError("the latency profile holds no model that was measured steadily")
        self.process_ = SumProcess().fit(calls, self._steady_ms, noise=1 / count, learn=learn)
        self._left_out_ms = np.full(len(subjects), np.nan)
        for rows in self._folds(subjects):
            self._left_out_ms[rows] = self._likely(
                self.process_.without(rows).predict(calls.take(rows))
            )
        models = [m for m in self._counted() if isinstance(m[0].what, Architecture)]
        self.p95_ratio_ = float(np.median([p95 / steady for _, _, steady, p95 in models]))
        self._tables: dict[tuple[str, Workload], ShapeTable] = {}
        return self

    def predict(
        self, architectures: Architectures, percentile: int = 50, *, target: Target | None = None
    ) -> FloatArray:
        """Milliseconds at a percentile (50 or 95) on the undisturbed device, (N,).

        Args:
            target: with the workload to predict for; None takes the profile's own. Of a mix of
                lengths it is the expected latency.

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
        """What an architecture's latency is below with probability ``confidence``, (N,).

        Raises:
            NasError: see :meth:`predict` and :meth:`margin`.
        """
        margin = self.margin(confidence, percentile)
        return self.predict(architectures, percentile, target=target) * (1 + margin)

    def margin(self, confidence: float = 0.95, percentile: int = 50) -> float:
        """How far above its prediction a latency is at most, relative, at a confidence.

        The conformal quantile (Vovk et al. 2005; Barber et al. 2021 for its form by folds) of the
        relative errors on models drawn at random from the profile's spaces, each predicted from
        measurements of others: for another model so drawn it holds, about, whatever the errors'
        distribution is.

        Raises:
            NasError: a confidence that the number of drawn models does not support.
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
        """The most that :meth:`margin` supports."""
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
        """Rows of the models drawn at random, in parts of which each is predicted from the rest."""
        drawn = {m.subject for m in self.profile.measurements if m.role == "drawn"}
        rows = np.array([row for row, one in enumerate(subjects) if one in drawn], dtype=np.int64)
        return [rows[part::_FOLDS] for part in range(min(_FOLDS, len(rows)))]

    def _counted(self) -> list[tuple[Subject, str, float, float]]:
        """Of every measurement that counts: subject, role, steady_ms, p95 at the same pace."""
        profile = self.profile
        return [
            (m.subject, m.role, x.steady_ms, x.p95_ms * x.steady_ms / x.p50_ms)
            for m, x, steady in zip(
                profile.measurements, profile.latencies, profile.steady, strict=True
            )
            if steady
        ]

    def held_out(self, percentile: int = 50) -> tuple[FloatArray, FloatArray]:
        """Of models drawn at random: milliseconds predicted from others, and measured, (N,)."""
        ratio = self._ratio(percentile)
        rows, measured = [], []
        for subject, role, steady_ms, p95_ms in self._counted():
            if role == "drawn" and self._row[subject] not in rows:
                rows.append(self._row[subject])
                measured.append(steady_ms if percentile == 50 else p95_ms)
        return ratio * self._left_out_ms[rows], np.array(measured)

    def repeated(self) -> tuple[FloatArray, FloatArray]:
        """Of models built and measured twice: the first time, and the second, (N,) each."""
        counted = self._counted()
        first = {s: ms for s, role, ms, _ in reversed(counted) if role == "drawn"}
        pairs = [(first[s], ms) for s, role, ms, _ in counted if role == "again" and s in first]
        ones, others = np.array(pairs).reshape(-1, 2).T
        return ones, others

    def _ratio(self, percentile: int) -> float:
        if percentile not in PERCENTILES:
            raise NasError(f"percentile must be 50 or 95, not {percentile!r}")
        return 1.0 if percentile == 50 else self.p95_ratio_

    # ---- many architectures -------------------------------------------------------------------

    def _steady(self, batch: ArchitectureBatch, workload: Workload) -> FloatArray:
        """Milliseconds of one workload, (N,)."""
        streamed, other = _megabytes(batch, workload, first_token=self.first_token_last_layer)
        *of_traffic, model_ms, layer_ms = self.process_.extras_
        total = self._kernels(batch, workload)
        total += traffic_ms(streamed, other, np.array(of_traffic))
        total += model_ms + layer_ms * batch.num_layers
        return self._likely(total * (1 + self._level(batch, workload)))

    def _likely(self, times_ms: FloatArray) -> FloatArray:
        """Times, none below the fastest that was measured: a model holds more than any kernel."""
        return np.maximum(times_ms, self._fastest_ms)

    def _kernels(self, batch: ArchitectureBatch, workload: Workload) -> FloatArray:
        """The call and all kernels, (N,)."""
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
        """Both kernels of layers; 0 where a layer is absent.

        Args:
            sizes: num_heads, qkv_size, intermediate_size and compression; all broadcast.
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
        return float(self.process_.shape_ms("call", shape)[0])

    def _table(self, kind: str, workload: Workload) -> ShapeTable:
        key = (kind, workload)
        if key not in self._tables:

            def times(sizes: IntArray) -> FloatArray:
                if kind not in self.process_.coefficients_:
                    raise NasError(
                        f"no model of the profile has the kernel {kind}, but a model to be "
                        "predicted has: profile a space of such models"
                    )
                workloads = np.broadcast_to(np.array(workload), (len(sizes), 2))
                return self.process_.shape_ms(kind, np.hstack([workloads, sizes]))

            self._tables[key] = ShapeTable(times, len(SIZES[kind]))
        return self._tables[key]

    def _level(self, batch: ArchitectureBatch, workload: Workload) -> FloatArray:
        """See :meth:`latency.process.SumProcess.level`, (N,): a parabola, told by three points."""
        tokens = math.log(workload.batch_size * workload.sequence_length)
        points = np.array([[-1.0, tokens], [0.0, tokens], [1.0, tokens]])
        below, middle, above = self.process_.level(points)
        x = np.log(4e-6 * batch.over_layers(batch.weights))
        return middle + x * (0.5 * (above - below) + x * (0.5 * (above + below) - middle))


def _distinct(profile: Profile) -> tuple[list[Subject], FloatArray, FloatArray]:
    """Subjects measured steadily; their geometric mean times, (N,); how often each was measured."""
    times: dict[Subject, list[float]] = {}
    for one, latency, steady in zip(
        profile.measurements, profile.latencies, profile.steady, strict=True
    ):
        if steady:
            times.setdefault(one.subject, []).append(latency.steady_ms)
    means = np.array([math.exp(math.fsum(map(math.log, ms)) / len(ms)) for ms in times.values()])
    return list(times), means, np.array([float(len(ms)) for ms in times.values()])


def _megabytes(
    batch: ArchitectureBatch, workload: Workload, *, first_token: bool
) -> tuple[FloatArray, FloatArray]:
    """Weights that are read for one token each, and all others, (N,) each; see latency.terms."""
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
