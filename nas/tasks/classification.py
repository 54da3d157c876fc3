"""Classification: each example has one of the classes that the training labels name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas.tasks.kind import (
    ClassShare,
    Kind,
    LabelColumn,
    Labels,
    LabelSummary,
    Metric,
    Names,
    Predictions,
    Written,
)
from supernet.errors import NasError

FAR_BETTER = 0.1
"""A head has its classes in another order if its accuracy in that order is higher by more than this
and three standard errors."""

_LONGEST_ANSWER = 40
_LONGEST_NAME = 80
_CLASSES_KEPT = 20
_MANY_CLASSES = 0.1
"""More classes than this share of the training examples are many."""
_MANY_NUMBERS = 20
"""More distinct whole numbers than this may well be values."""


def accuracy(predictions: Predictions, labels: Labels) -> float:
    """The share of examples whose class is right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, decide(predictions)))


def f1(predictions: Predictions, labels: Labels) -> float:
    """F1 of the second of two classes, as on GLUE; of more, the mean over classes (macro)."""
    from sklearn.metrics import f1_score

    predicted = decide(predictions)
    classes = (
        predictions.shape[1]
        if predictions.ndim == 2
        else int(max(predicted.max(), labels.max())) + 1
    )
    average = "binary" if classes <= 2 else "macro"
    return float(f1_score(labels, predicted, average=average, zero_division=0.0))


def matthews(predictions: Predictions, labels: Labels) -> float:
    """Matthews' correlation; 0 where predictions or labels are all the same."""
    from sklearn.metrics import matthews_corrcoef

    predicted = decide(predictions)
    constant = np.ptp(predicted) == 0 or np.ptp(labels) == 0
    return 0.0 if constant else float(matthews_corrcoef(labels, predicted))


def decide(predictions: Predictions) -> Labels:
    """The class with the largest logit; class indices stay as they are."""
    return predictions.argmax(axis=1) if predictions.ndim == 2 else predictions


def is_written(column: LabelColumn) -> bool:
    """Whether no label has a fraction: whole numbers are classes, however they are written."""
    return not column.has_fractions


def read(
    column: LabelColumn, names: Names | None = None
) -> tuple[Names, dict[str, NDArray[np.int64]]]:
    """Class names and indices. Without names, train alone defines the classes, unless the source
    states them.

    Args:
        names: of a head's classes, which may be more than the labels name.

    Raises:
        NasError: a label with a fraction, or one that is none of the classes.
    """
    if names is not None:
        places = {name: place for place, name in enumerate(names)}
        return names, {split: _places(column, split, places) for split in column.splits}
    is_float, is_stated = column.holds == "floating", column.holds == "categorical"
    column.check_varied()
    train = set(column.splits["train"].tolist())
    for split, labels in column.splits.items():
        for value in labels.tolist():
            if is_float and value % 1:
                raise NasError(f"{column.where} must hold classes for such a metric, not {value!r}")
            if value not in train:
                raise NasError(
                    f"{column.where} is {value!r} in {split}, a class that train has not"
                )
    order = list(column.splits["train"].cat.categories) if is_stated else sorted(train)
    index = {value: number for number, value in enumerate(order)}
    return tuple(map(_name, order)), {
        split: np.array([index[value] for value in labels.tolist()], np.int64)
        for split, labels in column.splits.items()
    }


def _places(column: LabelColumn, split: str, places: Mapping[str, int]) -> NDArray[np.int64]:
    """A split's labels as places among named classes."""
    found = [_name(value) for value in column.splits[split].tolist()]
    for row, label in enumerate(found, start=1):
        if label not in places:
            raise NasError(
                f"{column.where}: label {label!r} in row {row} is none of the model's classes, "
                f"{', '.join(list(places)[:8])}"
            )
    return np.array([places[label] for label in found], np.int64)


def constant(metric: Metric, names: Names, labels: Labels) -> tuple[float, str]:
    """The score of always answering the class that scores best, and that answer in words."""
    counts = np.bincount(labels, minlength=len(names))
    # F1 of two classes is the second's alone; everywhere else the largest class is the best guess.
    answer = 1 if metric.name == "f1" and len(names) == 2 else int(counts.argmax())
    answers = np.broadcast_to(np.arange(len(names)) == answer, (len(labels), len(names)))
    return metric.compute(
        answers, labels
    ), f"always answering {_cut(names[answer], _LONGEST_ANSWER)!r}"


def correlation_error(labels: Labels) -> float:
    """The standard error, at most, of Matthews' correlation with predictions that know nothing.

    Under permutation of n examples the variance of Pearson's correlation is 1 / (n - 1). Matthews'
    correlation of class indicators x and y has tr(Σx Σy) / (tr Σx tr Σy) times that variance.
    Whatever x is predicted, this factor is at most λ / tr Σy, where λ is Σy's largest eigenvalue,
    and λ is at most the largest class's share.
    """
    shares = np.bincount(labels) / len(labels)
    factor = min(1.0, shares.max() / (1 - (shares**2).sum()))
    return float(np.sqrt(factor) / np.sqrt(len(labels) - 1))


def doubt(names: Names, logits: Predictions, labels: Labels, is_chance: bool) -> str | None:
    """Whether a head has its classes in another order, or predicts no better than chance."""
    predicted = decide(logits)
    right = float((predicted == labels).mean())
    order, reordered = _best_order(predicted, labels, len(names))
    error = np.sqrt(reordered * (1 - reordered) / len(labels))
    told = f"its accuracy is {right:.1%} on {len(labels)} examples"
    if reordered - right > FAR_BETTER + 3 * error:
        given = ",".join(names[label] for label in order)
        return (
            f"{told}, and {reordered:.1%} were its classes in another order: give the names in its "
            f"order, --labels {given!r} as it seems"
        )
    if is_chance:
        return (
            f"{told}, which is no better than chance: it was trained for something else, or reads "
            "texts of another kind"
        )
    return None


def summary(names: Names, labels: Labels) -> LabelSummary:
    """The largest classes and their shares."""
    shares = np.bincount(labels, minlength=len(names)) / len(labels)
    largest = np.argsort(-shares, kind="stable")[:_CLASSES_KEPT]
    classes = tuple(ClassShare(_cut(names[c], _LONGEST_NAME), float(shares[c])) for c in largest)
    return LabelSummary(num_classes=len(names), classes=classes)


def misreadings(names: Names, examples: int, written: Written, is_open: bool) -> list[str]:
    """Signs that classes are values, too many, or one class under two names."""
    found = []
    if is_open and len(names) > 2:
        fractions = "some written with a fraction, " if written == "float" else ""
        if fractions or (written == "integer" and len(names) > _MANY_NUMBERS):
            found.append(
                f"labels are whole numbers, {fractions}{len(names)} of them, and taken for "
                "classes; are they values, give --metric pearson_spearman"
            )
    if len(names) > max(20.0, _MANY_CLASSES * examples):
        found.append(f"{len(names)} classes are many for {examples} training examples")
    plain = {name: " ".join(name.split()).casefold() for name in names}
    for one, count in Counter(plain.values()).items():
        if count > 1:
            alike = ", ".join(repr(name) for name in names if plain[name] == one)
            found.append(f"labels {alike} differ by case or blanks alone")
    return found


def _best_order(
    predicted: Predictions, labels: Predictions, classes: int
) -> tuple[list[int], float]:
    """The class that each output stands for best, and the accuracy then."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (predicted, labels), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return columns.tolist(), float(counts[rows, columns].sum() / len(labels))


def _name(value: object) -> str:
    """A class's name: whole numbers have one, however they are written."""
    return str(int(value) if isinstance(value, float) and value % 1 == 0 else value)


def _cut(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[:longest]}…"


CLASSIFICATION = Kind(
    name="classification",
    metrics=(
        Metric("accuracy", accuracy, is_share=True),
        Metric("f1", f1, is_share=True),
        Metric("matthews", matthews),
    ),
    correlation="matthews",
    problem_type="single_label_classification",
    is_written=is_written,
    read=read,
    decide=decide,
    constant=constant,
    correlation_error=correlation_error,
    doubt=doubt,
    summary=summary,
    misreadings=misreadings,
)
