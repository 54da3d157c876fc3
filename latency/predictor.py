"""LatencyPredictor: from a profile to milliseconds, for millions of architectures at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from latency.accuracy import PredictorErrors, accuracy
from latency.kernels import lower
from latency.profile import Profile
from latency.regression import KernelRegressor, RatioRegressor
from latency.target import Latency
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch, IntArray
from supernet.errors import NasError

FloatArray = NDArray[np.float64]
Architectures = ArchitectureBatch | Sequence[Architecture]

_FOLDS = 7


class LatencyPredictor:
    """Predicts the latency of architectures on the target of a profile.

    A model takes the sum of its kernels, each read from a table that regressions on the measured
    kernels fill, times a ratio learned from whole models, which knows what single kernels do not
    show: caches, memory, dispatch.

    Args:
        profile: a complete one.

    Attributes:
        kernels_: a fitted regressor for each kind of kernel.
        calibration_: the fitted ratio of whole models to the sum of their kernels.
        call_ms_: what a call of the runtime takes by itself.
        percentile_ratios_: measured percentile over the statistic that is fitted, by percentile.

    Raises:
        NasError: the profile is not complete.

    Example: ``LatencyPredictor(Profile.load(path)).fit().predict(architectures)``
    """

    def __init__(self, profile: Profile) -> None:
        if not profile.complete:
            raise NasError("the latency profile is not complete; run the profiling to its end")
        self.profile = profile

    def fit(self) -> Self:
        """Fit all regressions; some seconds."""
        kernel_ms = self._kernel_times()
        self.call_ms_ = float(kernel_ms.pop("call")[1][0])
        self.kernels_ = {
            kind: KernelRegressor(kind).fit(sizes, times_ms)
            for kind, (sizes, times_ms) in kernel_ms.items()
        }
        self._measured = self._model_latencies()
        self._models = ArchitectureBatch.of(list(self._measured))
        self._low_ms = np.array([latency.low_ms for latency in self._measured.values()])
        self._sum_ms = self.kernel_sum(self._models)
        self._features = _calibration_features(self._models, self._sum_ms)
        self.calibration_ = RatioRegressor().fit(self._features, self._low_ms / self._sum_ms)
        self.percentile_ratios_ = {
            percentile: float(
                np.median([la.at(percentile) / la.low_ms for la in self._measured.values()])
            )
            for percentile in (50, 95)
        }
        self.__dict__.pop("_left_out_ms", None)
        return self

    def predict(self, architectures: Architectures, percentile: int = 50) -> FloatArray:
        """Milliseconds at a percentile (50 or 95) on the undisturbed device, (N,)."""
        if percentile not in self.percentile_ratios_:
            raise NasError(f"percentile must be 50 or 95, not {percentile!r}")
        return self.predict_low(architectures) * self.percentile_ratios_[percentile]

    def predict_low(self, architectures: Architectures) -> FloatArray:
        """Milliseconds of the statistic that is fitted (``Latency.low_ms``), (N,)."""
        batch = _batch(architectures)
        sum_ms = self.kernel_sum(batch)
        return sum_ms * self.calibration_.predict(_calibration_features(batch, sum_ms))

    def predict_upper(
        self, architectures: Architectures, confidence: float = 0.9, percentile: int = 50
    ) -> FloatArray:
        """A limit that a model of the profile's space keeps with about this confidence, (N,).

        The prediction times a quantile of measured over predicted, from predictions of models
        left out of the calibration (cross-conformal prediction, Vovk 2015).

        Raises:
            NasError: a confidence outside (0, 1), or beyond what so few models can tell.
        """
        ratios = np.sort(self._low_ms / self._left_out_ms)
        rank = math.ceil((len(ratios) + 1) * confidence)
        if not 0 < confidence < 1 or rank > len(ratios):
            highest = len(ratios) / (len(ratios) + 1)
            raise NasError(
                f"confidence must lie between 0 and {highest:.2f} with {len(ratios)} models in "
                f"the profile, not {confidence!r}"
            )
        return self.predict(architectures, percentile) * float(ratios[rank - 1])

    def errors(self) -> PredictorErrors:
        """Accuracy on the profile's models, each left out of the calibration that predicts it."""
        own = accuracy(self._left_out_ms, self._low_ms)
        pairs: dict[Architecture, list[float]] = {}
        for entry, latency in zip(self.profile.models, self.profile.model_latencies(), strict=True):
            pairs.setdefault(entry.architecture, []).append(latency.low_ms)
        twice = np.array([times for times in pairs.values() if len(times) == 2])  # (N, 2)
        floor = accuracy(twice[:, 1], twice[:, 0])
        return PredictorErrors(
            **own.to_dict(),
            floor_models=floor.models,
            floor_mape_percent=floor.mape_percent,
            floor_within_5_percent=floor.within_5_percent,
            floor_within_10_percent=floor.within_10_percent,
        )

    def kernel_sum(self, architectures: Architectures) -> FloatArray:
        """The call and all kernels, before calibration, in milliseconds, (N,)."""
        batch = _batch(architectures)
        first_token = "first_token_attention" in self.kernels_
        total = np.full(len(batch), self.call_ms_)
        for kind, sizes in lower(batch, first_token_last_layer=first_token).items():
            total += _gather(self.kernels_[kind], sizes)
        return total

    @cached_property
    def _left_out_ms(self) -> FloatArray:
        """Each of the profile's models predicted by a calibration that has not seen it."""
        fold = np.arange(len(self._low_ms)) % _FOLDS
        predicted = np.empty_like(self._low_ms)
        ratios = self._low_ms / self._sum_ms
        for index in range(_FOLDS):
            seen, unseen = fold != index, fold == index
            calibration = RatioRegressor().fit(self._features[seen], ratios[seen])
            predicted[unseen] = self._sum_ms[unseen] * calibration.predict(self._features[unseen])
        return predicted

    def _kernel_times(self) -> dict[str, tuple[IntArray, FloatArray]]:
        """Sizes, (N, D), and milliseconds of one kernel, (N,), by kind."""
        measured: dict[str, list[tuple[tuple[int, ...], float]]] = {}
        latencies = self.profile.kernel_latencies()
        call_ms = next(
            latency.low_ms
            for entry, latency in zip(self.profile.kernels, latencies, strict=True)
            if entry.kernel.kind == "call"
        )
        for entry, latency in zip(self.profile.kernels, latencies, strict=True):
            time_ms = latency.low_ms
            if entry.kernel.kind != "call":  # the others were called too
                time_ms = max(time_ms - call_ms, 0.01 * time_ms) / entry.copies
            measured.setdefault(entry.kernel.kind, []).append((entry.kernel.sizes, time_ms))
        return {
            kind: (np.array([s for s, _ in rows], dtype=np.int64), np.array([t for _, t in rows]))
            for kind, rows in measured.items()
        }

    def _model_latencies(self) -> dict[Architecture, Latency]:
        """One latency a model: the faster, where one was measured twice."""
        latencies: dict[Architecture, Latency] = {}
        for entry, latency in zip(self.profile.models, self.profile.model_latencies(), strict=True):
            known = latencies.setdefault(entry.architecture, latency)
            if latency.low_ms < known.low_ms:
                latencies[entry.architecture] = latency
        return latencies


def _batch(architectures: Architectures) -> ArchitectureBatch:
    if isinstance(architectures, ArchitectureBatch):
        return architectures
    return ArchitectureBatch.of(architectures)


def _calibration_features(batch: ArchitectureBatch, sum_ms: FloatArray) -> FloatArray:
    """Logarithms of the kernels' sum, of the depth, and of the layers' weights, (N, 3)."""
    width = 4 * batch.qkv_size + 2 * batch.intermediate_size  # of a layer's matrices
    weights = batch.hidden_size * width.sum(axis=1)
    return np.log(np.stack([sum_ms, batch.num_layers, weights], axis=1))


def _gather(regressor: KernelRegressor, sizes: IntArray) -> FloatArray:
    """Sum over a model's kernels of one kind, (N,), for sizes (N, K, D); zeros are absent.

    Distinct values of each size are numbered, so that a shape is one index into a table, of
    which only the shapes that occur are computed.
    """
    index = np.zeros(sizes.shape[:-1], dtype=np.int64)  # (N, K)
    axes = []
    for column in range(sizes.shape[-1]):
        values = sizes[..., column]
        occurs = np.zeros(values.max(initial=0) + 1, dtype=bool)
        occurs[values] = True
        axes.append(np.flatnonzero(occurs))
        numbers = np.cumsum(occurs) - 1
        index = index * len(axes[-1]) + numbers[values]
    table = np.zeros(math.prod(map(len, axes)))
    occurs = np.zeros(len(table), dtype=bool)
    occurs[index] = True
    rows = np.flatnonzero(occurs)
    coordinates = np.unravel_index(rows, [len(axis) for axis in axes])
    shapes = np.stack([axis[c] for axis, c in zip(axes, coordinates, strict=True)], axis=1)
    present = shapes.all(axis=1)
    if present.any():
        table[rows[present]] = regressor.predict(shapes[present])
    total: FloatArray = table[index].sum(axis=1)
    return total
