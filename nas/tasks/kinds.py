"""The kinds of task. A new kind is a file that makes a ``Kind``, and a place in this list."""

from __future__ import annotations

from typing import NamedTuple

from nas.tasks.classification import CLASSIFICATION
from nas.tasks.kind import Kind, LabelColumn, Names
from nas.tasks.regression import REGRESSION
from supernet.errors import NasError

KINDS = (CLASSIFICATION, REGRESSION)

METRICS = tuple(name for kind in KINDS for name in kind.metric_names)
"""Names of all metrics."""


class Head(NamedTuple):
    """What a trained head predicts.

    Args:
        names: of its classes, in its order; empty where it predicts values.
    """

    kind: Kind
    names: Names


def kind_of_metric(name: str) -> Kind:
    """The kind of task that a metric scores.

    Raises:
        NasError: no kind has a metric of this name.
    """
    for kind in KINDS:
        if name in kind.metric_names:
            return kind
    raise NasError(f"metric {name!r} is unknown; accepted: {', '.join(METRICS)}")


def kind_of_labels(column: LabelColumn) -> Kind:
    """The kind of task that labels make where no metric was asked for."""
    return next(kind for kind in KINDS if kind.is_written(column))
