"""Scores of predictions against labels: accuracy, F1, Matthews, Pearson with Spearman."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supernet.errors import NasError

CLASSIFICATION_METRICS = ("accuracy", "f1", "matthews")
REGRESSION_METRICS = ("pearson_spearman",)
METRICS = CLASSIFICATION_METRICS + REGRESSION_METRICS
METRICS_OF = {"classification": CLASSIFICATION_METRICS, "regression": REGRESSION_METRICS}
"""By the kind of task."""
PERCENT_METRICS = frozenset({"accuracy", "f1"})
"""Shares, which readers know as percentages; correlations are not."""


def check_metric(metric: str) -> None:
    """Refuse a name that is not in :data:`METRICS`.

    Raises:
        NasError: naming what was given and what is accepted.
    """
    if metric not in METRICS:
        raise NasError(f"metric {metric!r} is unknown; accepted: {', '.join(METRICS)}")


def score_in_words(metric: str, value: float) -> str:
    """``94.1%`` for a share, ``0.612`` for a correlation."""
    return f"{value:.1%}" if metric in PERCENT_METRICS else f"{value:.3f}"


def compute(metric: str, predictions: ArrayLike, labels: ArrayLike) -> float:
    """The score of ``predictions``, higher is better, 1.0 at best.

    ``f1`` is the second class's in a two-class task, as on GLUE, and the mean over classes
    (macro) with more. ``pearson_spearman`` is the mean of both correlations, as STS-B reports.
    A constant prediction, for which no correlation is defined, has one of 0, Matthews' likewise.

    Args:
        metric: one of :data:`METRICS`.
        predictions: a classifier's logits ``(examples, classes)`` or class indices
            ``(examples,)``; a regressor's values ``(examples,)`` or ``(examples, 1)``.
        labels: class indices or values, ``(examples,)``.

    Raises:
        NasError: an unknown metric, shapes that do not fit, no examples, or a prediction or
            label that is not finite.

    Example:
        >>> compute("accuracy", [[2.0, 1.0], [0.0, 3.0]], [0, 0])
        0.5
    """
    check_metric(metric)
    predicted = np.asarray(predictions)
    expected = np.asarray(labels)
    _check(metric, predicted, expected)
    if metric in REGRESSION_METRICS:
        return _pearson_spearman(predicted.reshape(-1), expected)
    num_classes = predicted.shape[1] if predicted.ndim == 2 else None
    if predicted.ndim == 2:
        predicted = predicted.argmax(axis=1)
    if num_classes is None:
        num_classes = int(max(predicted.max(), expected.max())) + 1
    return _classification(metric, predicted, expected, binary=num_classes <= 2)


def _classification(
    metric: str, predicted: NDArray[np.int_], expected: NDArray[np.int_], *, binary: bool
) -> float:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if metric == "accuracy":
        return float(accuracy_score(expected, predicted))
    if metric == "matthews":
        constant = np.ptp(predicted) == 0 or np.ptp(expected) == 0
        return 0.0 if constant else float(matthews_corrcoef(expected, predicted))
    average = "binary" if binary else "macro"
    return float(f1_score(expected, predicted, average=average, zero_division=0.0))


def _pearson_spearman(predicted: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    from scipy.stats import pearsonr, spearmanr

    predicted = predicted.astype(np.float64)
    expected = expected.astype(np.float64)
    if np.ptp(predicted) == 0 or np.ptp(expected) == 0:
        return 0.0
    pearson = pearsonr(predicted, expected).statistic
    spearman = spearmanr(predicted, expected).statistic
    return float((pearson + spearman) / 2)


def _check(metric: str, predicted: NDArray[np.generic], expected: NDArray[np.generic]) -> None:
    if expected.ndim != 1 or len(expected) == 0:
        raise NasError(f"{metric}: labels must be (examples,), not of shape {expected.shape}")
    regression = metric in REGRESSION_METRICS
    is_row = predicted.ndim == 2 and (predicted.shape[1] == 1) == regression
    if predicted.ndim != 1 and not is_row:
        accepted = "(examples,) or (examples, " + ("1)" if regression else "classes)")
        raise NasError(f"{metric}: predictions of shape {predicted.shape}; accepted: {accepted}")
    if len(predicted) != len(expected):
        raise NasError(f"{metric}: {len(predicted)} predictions for {len(expected)} labels")
    for name, values in (("predictions", predicted), ("labels", expected)):
        if not np.isfinite(values).all():
            raise NasError(f"{metric}: {name} hold NaN or infinity")
