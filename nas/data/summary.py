"""What there is to say of data at a glance, so that a misreading shows before any training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nas.data.task_data import Examples, TaskData

_CLASSES_KEPT = 20
_CLASSES_SHOWN = 12
_NAMES_SHOWN = 5
_LONGEST_NAME = 80
_MANY_CLASSES = 0.1
"""More classes than this share of the training examples are many."""
_MANY_NUMBERS = 20
"""More whole numbers than this may well be values."""


@dataclass(frozen=True, slots=True)
class ClassShare:
    """A class and its share of the training examples; of a long name the beginning."""

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


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What was read of data, and what may be amiss.

    Args:
        splits: examples in train, validation and test.
        text_columns, label_column: whose content was taken.
        unread_columns: the others.
        ignored_files: files of data in the folder that were passed over.
        num_classes: of a classification; 0 for a regression.
        classes: the 20 largest, most frequent first.
        values: of a regression.
        warnings: what may be amiss, a line each.
    """

    splits: Mapping[str, int]
    text_columns: tuple[str, ...]
    label_column: str
    unread_columns: tuple[str, ...] = ()
    ignored_files: tuple[str, ...] = ()
    num_classes: int = 0
    classes: tuple[ClassShare, ...] = ()
    values: ValueRange | None = None
    warnings: tuple[str, ...] = ()


def summary_of(data: TaskData, more: Sequence[str] = ()) -> DataSummary:
    """The summary of a task's data.

    Args:
        more: further warnings, such as of how texts were tokenized.
    """
    reading, labels, names = data.reading, np.asarray(data.train.labels), data.task.label_names
    classes: tuple[ClassShare, ...] = ()
    values = None
    if names:
        shares = np.bincount(labels, minlength=len(names)) / len(labels)
        largest = np.argsort(-shares, kind="stable")[:_CLASSES_KEPT]
        classes = tuple(ClassShare(_cut(names[row]), float(shares[row])) for row in largest)
    else:
        values = ValueRange(float(labels.min()), float(labels.max()), float(labels.mean()))
    return DataSummary(
        splits={name: len(examples) for name, examples in data.splits.items()},
        text_columns=reading.text_columns,
        label_column=reading.label_column,
        unread_columns=tuple(name or "(without a name)" for name in reading.unread_columns),
        ignored_files=reading.ignored_files,
        num_classes=len(names),
        classes=classes,
        values=values,
        warnings=(*reading.told, *doubts_of(data), *more),
    )


def told_of(data: TaskData) -> list[str]:
    """Lines for people: sizes, columns, labels, and what may be amiss."""
    found = summary_of(data)
    sizes = " + ".join(map(str, found.splits.values()))
    lines = [
        f"{data.task.name}: {sizes} examples (train, validation, test), {data.task.metric}",
        f"texts from {' and '.join(found.text_columns)}, labels from {found.label_column}: "
        f"{_labels(found)}",
    ]
    if found.unread_columns:
        lines.append(f"columns not read: {some(found.unread_columns, _NAMES_SHOWN)}")
    if found.ignored_files:
        lines.append(f"files not read: {some(found.ignored_files, _NAMES_SHOWN)}")
    return [*lines, *found.warnings]


def doubts_of(data: TaskData) -> list[str]:
    """What may be amiss with the labels, or with the split."""
    found = []
    names, reading = data.task.label_names, data.reading
    if reading.kind_is_open and len(names) > 2:
        written = "some written with a fraction, " if reading.labels_as == "float" else ""
        if written or (reading.labels_as == "integer" and len(names) > _MANY_NUMBERS):
            found.append(
                f"labels are whole numbers, {written}{len(names)} of them, and taken for classes; "
                "are they values, give --metric pearson_spearman"
            )
    if len(names) > max(20.0, _MANY_CLASSES * len(data.train)):
        found.append(f"{len(names)} classes are many for {len(data.train)} training examples")
    for alike in _alike(names):
        found.append(f"labels {', '.join(map(repr, alike))} differ by case or blanks alone")
    empty = {
        name: sum(not (a + b).strip() for a, b in _texts(examples))
        for name, examples in data.splits.items()
    }
    if any(empty.values()):
        counts = ", ".join(f"{count} of {name}" for name, count in empty.items() if count)
        found.append(f"texts that are empty: {counts}")
    shared = shared_texts(data)
    if shared:
        counts = ", ".join(f"{count} of {name}" for name, count in shared.items())
        found.append(f"texts that stand in train as well: {counts}")
    return found


def shared_texts(data: TaskData) -> dict[str, int]:
    """How many examples of validation and test have the text, or both, of one in train."""
    seen = set(_texts(data.train))
    counts = {
        name: sum(text in seen for text in _texts(examples))
        for name, examples in data.splits.items()
        if name != "train"
    }
    return {name: count for name, count in counts.items() if count}


def _texts(examples: Examples) -> list[tuple[str, str]]:
    return list(zip(examples.text_a, examples.text_b or ("",) * len(examples), strict=True))


def _labels(found: DataSummary) -> str:
    if found.values is not None:
        return f"values {found.values}"
    shares = [f"{one.name} {one.share:.1%}" for one in found.classes[:_CLASSES_SHOWN]]
    more = found.num_classes - len(shares)
    return f"{found.num_classes} classes, {', '.join(shares)}{f' and {more} more' if more else ''}"


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


def _alike(names: tuple[str, ...]) -> list[list[str]]:
    """Names that are one, but for case and blanks."""
    plain = {name: " ".join(name.split()).casefold() for name in names}
    counts = Counter(plain.values())
    return [
        [name for name in names if plain[name] == one] for one, count in counts.items() if count > 1
    ]


def some(names: Sequence[str], shown: int = 20) -> str:
    """The first of names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
