"""Kind: everything that tells one kind of task from another, as values and functions.

Each kind has a file that makes one ``Kind``, and :mod:`nas.tasks.kinds` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas.tasks.units import Units
from supernet.errors import NasError

if TYPE_CHECKING:
    import pandas as pd

Labels = NDArray[np.int64] | NDArray[np.float64]
"""Class indices or values, (examples,)."""
Names = tuple[str, ...]
"""A name for each class; empty where labels are values."""
Predictions = NDArray[Any]
"""A head's outputs, (examples, outputs), or what they come to, (examples,)."""
Written = Literal["integer", "float", "text"]
"""What labels are written as: ``float`` where some are, ``text`` where some are no numbers."""

ACCEPTED = ("integer", "floating", "string", "boolean", "categorical")
"""Types of label columns, as pandas infers them."""


@dataclass(frozen=True)
class Metric:
    """A score of predictions against labels: higher is better, 1.0 at best.

    Args:
        name: as users give it.
        compute: from predictions and labels to the score.
        is_share: whether people read it as a percentage.
    """

    name: str
    compute: Callable[[Predictions, Labels], float]
    is_share: bool = False


@dataclass(frozen=True, eq=False)
class LabelColumn:
    """The labels of a data set as they were read, none of them absent.

    Args:
        where: names the data and the column, for messages.
        splits: the column in each split. ``train`` defines which labels there are.
    """

    where: str
    splits: Mapping[str, pd.Series[Any]]

    @cached_property
    def holds(self) -> str:
        """The type of all labels together, one of :data:`ACCEPTED`.

        Raises:
            NasError: another type.
        """
        import pandas as pd

        together = pd.concat(self.splits.values(), ignore_index=True)
        found = pd.api.types.infer_dtype(together)
        if found == "mixed-integer-float":
            return "floating"
        if found not in ACCEPTED:
            raise NasError(
                f"{self.where} holds {found} values; accepted: all integer, text, bool or float"
            )
        return found

    @cached_property
    def has_fractions(self) -> bool:
        """Whether some labels are numbers that are not whole."""
        return self.holds == "floating" and any(
            (column.astype(float) % 1 != 0).any() for column in self.splits.values()
        )

    def check_varied(self) -> None:
        """Refuse labels that are all the same in train.

        Raises:
            NasError: they are.
        """
        labels = self.splits["train"].tolist()
        if len(set(labels)) == 1:
            raise NasError(f"{self.where} is {labels[0]!r} in every row of train: nothing to learn")


@dataclass(frozen=True, slots=True)
class ClassShare:
    """A class and its share of the training examples; a long name is cut."""

    name: str
    share: float


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The values of a regression's training examples."""

    least: float
    greatest: float
    mean: float

    def __str__(self) -> str:
        return f"from {self.least:.4g} to {self.greatest:.4g}, {self.mean:.4g} on average"


@dataclass(frozen=True)
class LabelSummary:
    """What people are shown of the training labels: classes or values.

    Args:
        num_classes: 0 where labels are values.
        classes: the largest, most frequent first.
    """

    num_classes: int = 0
    classes: tuple[ClassShare, ...] = ()
    values: ValueRange | None = None


def _no_misreadings(_names: Names, _examples: int, _written: Written, _is_open: bool) -> list[str]:
    return []


def _no_units(_labels: Labels) -> Units:
    return Units()


@dataclass(frozen=True, repr=False)
class Kind:
    """A kind of task.

    Args:
        name: as reports and the service's answers give it.
        metrics: that fit it, the default first.
        correlation: name of the metric whose error by chance ``correlation_error`` gives.
        problem_type: by this name transformers chooses the loss.
        is_written: whether labels may be of this kind where no metric was asked for. The first
            kind in the registry that answers yes is taken.
        read: class names, and the labels of each split as indices or values. Names are given where
            a model's head has them already; else None.
        decide: from a head's outputs to predicted labels, (examples,).
        constant: the score that the best constant answer has by a metric, and that answer in words.
        correlation_error: the standard error, at most, of ``correlation`` between labels and
            predictions that know nothing. Labels are at least two, and not all the same.
        doubt: why a head seems to predict other labels than these, and what to do; None where
            nothing does. Its last argument says whether ``correlation`` may be chance.
        summary: what people are shown of training labels.
        misreadings: a line for each sign that labels were misread. Arguments: class names, the
            number of training examples, how labels are written, and whether no metric was asked
            for.
        outputs: names of a head's outputs; None where it has one for each of several classes.
        units: in which training labels are learnt.
    """

    name: str
    metrics: tuple[Metric, ...]
    correlation: str
    problem_type: str
    is_written: Callable[[LabelColumn], bool]
    read: Callable[[LabelColumn, Names | None], tuple[Names, Mapping[str, Labels]]]
    decide: Callable[[Predictions], Labels]
    constant: Callable[[Metric, Names, Labels], tuple[float, str]]
    correlation_error: Callable[[Labels], float]
    doubt: Callable[[Names, Predictions, Labels, bool], str | None]
    summary: Callable[[Names, Labels], LabelSummary]
    misreadings: Callable[[Names, int, Written, bool], Sequence[str]] = _no_misreadings
    outputs: Names | None = None
    units: Callable[[Labels], Units] = _no_units

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def check_names(self, names: Names) -> None:
        """Refuse names of classes where a head has none, and fewer than two where it has some.

        Raises:
            NasError: they do not fit.
        """
        if self.outputs is None and len(names) < 2:
            raise NasError(f"a {self.name} needs two classes, not {names!r}")
        if self.outputs is not None and names:
            raise NasError(f"a {self.name} has no label names, not {names!r}")

    def has_width(self, outputs: int) -> bool:
        """Whether a head may have so many outputs."""
        return outputs > 1 if self.outputs is None else outputs == len(self.outputs)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that fit, the default first."""
        return tuple(metric.name for metric in self.metrics)

    def metric(self, name: str) -> Metric:
        """The metric of this name.

        Raises:
            NasError: no metric of this kind has it.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise NasError(
            f"metric {name!r} is not for {self.name}; accepted: {', '.join(self.metric_names)}"
        )
