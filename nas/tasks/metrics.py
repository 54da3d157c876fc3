"""Scores of predictions against labels, by the metric's name."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.tasks.kind import Kind
from nas.tasks.kinds import METRICS, kind_of_metric
from supernet.errors import NasError


def is_share(metric: str) -> bool:
    """Whether people read a metric as a percentage, as accuracy; correlations are not."""
    return metric in METRICS and kind_of_metric(metric).metric(metric).is_share


def score_in_words(metric: str, value: float) -> str:
    """``94.1%`` for a share, ``0.612`` for a correlation."""
    return f"{value:.1%}" if is_share(metric) else f"{value:.3f}"


def compute(metric: str, predictions: ArrayLike, labels: ArrayLike) -> float:
    """The score of ``predictions``: higher is better, 1.0 at best.

    Args:
        metric: one of :data:`nas.tasks.kinds.METRICS`.
        predictions: a head's outputs, ``(examples, outputs)``, or class indices or values
            ``(examples,)``.
        labels: class indices or values, ``(examples,)``.

    Raises:
        NasError: an unknown metric, shapes that do not fit, no examples, or a prediction or
            label that is not finite.

    Example:
        >>> compute("accuracy", [[2.0, 1.0], [0.0, 3.0]], [0, 0])
        0.5
    """
    kind = kind_of_metric(metric)
    predicted, expected = np.asarray(predictions), np.asarray(labels)
    _check(kind, metric, predicted, expected)
    return kind.metric(metric).compute(predicted, expected)


def _check(
    kind: Kind, metric: str, predicted: NDArray[np.generic], expected: NDArray[np.generic]
) -> None:
    if expected.ndim != 1 or len(expected) == 0:
        raise NasError(f"{metric}: labels must be (examples,), not of shape {expected.shape}")
    is_row = predicted.ndim == 2 and kind.has_width(predicted.shape[1])
    if predicted.ndim != 1 and not is_row:
        width = "classes" if kind.outputs is None else len(kind.outputs)
        accepted = f"(examples,) or (examples, {width})"
        raise NasError(f"{metric}: predictions of shape {predicted.shape}; accepted: {accepted}")
    if len(predicted) != len(expected):
        raise NasError(f"{metric}: {len(predicted)} predictions for {len(expected)} labels")
    for name, values in (("predictions", predicted), ("labels", expected)):
        if not np.isfinite(values).all():
            raise NasError(f"{metric}: {name} hold NaN or infinity")
