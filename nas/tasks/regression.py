"""Regression: each example has a value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.tasks.kind import (
    Kind,
    LabelColumn,
    Labels,
    LabelSummary,
    Metric,
    Names,
    Predictions,
    ValueRange,
)
from nas.tasks.units import Units
from supernet.errors import NasError


def pearson_spearman(predictions: Predictions, labels: Labels) -> float:
    """The mean of Pearson's and Spearman's correlations, as STS-B reports.

    It is 0 where predictions or labels are all the same.
    """
    from scipy.stats import pearsonr, spearmanr

    predicted, expected = decide(predictions).astype(np.float64), labels.astype(np.float64)
    if np.ptp(predicted) == 0 or np.ptp(expected) == 0:
        return 0.0
    pearson = pearsonr(predicted, expected).statistic
    spearman = spearmanr(predicted, expected).statistic
    return float((pearson + spearman) / 2)


def decide(predictions: Predictions) -> Labels:
    """The values that a head's only output gives, (examples,)."""
    return predictions.reshape(-1)


def is_written(column: LabelColumn) -> bool:
    """Whether some label has a fraction."""
    return column.has_fractions


def read(
    column: LabelColumn, _names: Names | None = None
) -> tuple[Names, dict[str, NDArray[np.float64]]]:
    """No names, and the values.

    Raises:
        NasError: labels that are no numbers, or infinite.
    """
    if column.holds not in ("integer", "floating"):
        example = column.splits["train"].iloc[0]
        raise NasError(f"{column.where} must be numeric for a regression, not {example!r}")
    column.check_varied()
    values = {split: labels.to_numpy(np.float64) for split, labels in column.splits.items()}
    for split, array in values.items():
        if not np.isfinite(array).all():
            row = np.isinf(array).argmax() + 1
            raise NasError(f"{column.where} is infinite in row {row} of {split}")
    return (), values


def constant(_metric: Metric, _names: Names, _labels: Labels) -> tuple[float, str]:
    """0, as a constant correlates with nothing."""
    return 0.0, "a constant"


def correlation_error(labels: Labels) -> float:
    """The standard error of Pearson's correlation under permutation of n examples, √(1/(n - 1))."""
    return float(1 / np.sqrt(len(labels) - 1))


def doubt(_names: Names, logits: Predictions, labels: Labels, is_chance: bool) -> str | None:
    """That a head's predictions correlate with the values no better than chance."""
    if not is_chance:
        return None
    found = pearson_spearman(logits, labels)
    return (
        f"its predictions and the data's values correlate by {found:.2f} on {len(labels)} "
        "examples, which is no better than chance"
    )


def summary(_names: Names, labels: Labels) -> LabelSummary:
    """The values' range and mean."""
    values = ValueRange(float(labels.min()), float(labels.max()), float(labels.mean()))
    return LabelSummary(values=values)


REGRESSION = Kind(
    name="regression",
    metrics=(Metric("pearson_spearman", pearson_spearman),),
    correlation="pearson_spearman",
    problem_type="regression",
    is_written=is_written,
    read=read,
    decide=decide,
    constant=constant,
    correlation_error=correlation_error,
    doubt=doubt,
    summary=summary,
    outputs=("value",),
    units=Units.of,
)
