"""LatencyPredictor: from a profile to milliseconds, for millions of architectures at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from latency.accuracy import PredictorErrors, accuracy
from latency.kernels import lower
from latency.profile import Profile
from latency.regression import KernelRegressor, RatioRegressor
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
        measured = self._measured_ms()
        means = [np.log(times).mean(axis=0) for times in measured.values()]
        self._low_ms, self._p50_ms, p95_ms = np.exp(means).T  # of M models, (M,) each
        models = ArchitectureBatch.of(list(measured))
        self._sum_ms = self.kernel_sum(models)
        self._features = _calibration_features(models, self._sum_ms)
        self.calibration_ = RatioRegressor().fit(self._features, self._low_ms / self._sum_ms)
        self.percentile_ratios_ = {
            50: float(np.median(self._p50_ms / self._low_ms)),
            95: float(np.median(p95_ms / self._low_ms)),
        }
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

    def errors(self) -> PredictorErrors:
        """Accuracy of p50 on the profile's models, each left out of what predicts it."""
        own = accuracy(self._left_out_p50_ms(), self._p50_ms)
        twice = np.array([times for times in self._measured_ms().values() if len(times) == 2])
        first_ms, second_ms = twice[:, :, 1].T  # p50
        floor = accuracy(second_ms, first_ms)
        return PredictorErrors(
            **own.to_dict(),
            floor_models=floor.models,
            floor_mape_percent=floor.mape_percent,
            floor_within_5_percent=floor.within_5_percent,
            floor_within_10_percent=floor.within_10_percent,
        )

    def kernel_sum(self, architectures: Architectures) -> FloatArray:
        """The call and all kernels, before calibration, in milliseconds, (N,).

        Raises:
            NasError: a layer of a kind that no model of the profile's space has.
        """
        batch = _batch(architectures)
        first_token = "first_token_attention" in self.kernels_
        total = np.full(len(batch), self.call_ms_)
        for kind, sizes in lower(batch, first_token_last_layer=first_token).items():
            if not sizes.any():
                continue
            if kind not in self.kernels_:
                raise NasError(
                    f"the profile's space {self.profile.space.get('name')} has no layer with the "
                    f"kernel {kind}, but a model to be predicted has: profile a deeper space"
                )
            total += _gather(self.kernels_[kind], sizes)
        return total

    def _left_out_p50_ms(self) -> FloatArray:
        """Each of the profile's M models predicted by a calibration that has not seen it, (M,).

        The only model of a profile is predicted by the sum of its kernels.
        """
        fold = np.arange(len(self._sum_ms)) % _FOLDS
        predicted = self._sum_ms.copy()
        for index in range(min(_FOLDS, len(fold))):
            seen, unseen = fold != index, fold == index
            if seen.any():
                low_ms = self._low_ms[seen]
                calibration = RatioRegressor().fit(
                    self._features[seen], low_ms / self._sum_ms[seen]
                )
                predicted[unseen] *= calibration.predict(self._features[unseen])
                predicted[unseen] *= np.median(self._p50_ms[seen] / low_ms)
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

    def _measured_ms(self) -> dict[Architecture, list[tuple[float, float, float]]]:
        """Of each model low_ms, p50 and p95, once for every time it was measured."""
        measured: dict[Architecture, list[tuple[float, float, float]]] = {}
        for entry, latency in zip(self.profile.models, self.profile.model_latencies(), strict=True):
            statistics = (latency.low_ms, latency.p50_ms, latency.p95_ms)
            measured.setdefault(entry.architecture, []).append(statistics)
        return measured


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
    table[rows[present]] = regressor.predict(shapes[present])
    total: FloatArray = table[index].sum(axis=1)
    return total
