"""What there is to say of data at a glance, so that a misreading shows before any training."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nas.data import Examples, TaskData

_CLASSES_SHOWN = 12
_NAMES_SHOWN = 5
_MANY_CLASSES = 0.1
"""More classes than this share of the training examples are many."""


def told_of(data: TaskData) -> list[str]:
    """Lines for people: sizes, columns, labels, and what may be amiss."""
    sizes = " + ".join(str(len(examples)) for examples in data.splits.values())
    reading = data.reading
    lines = [
        f"{data.task.name}: {sizes} examples (train, validation, test), {data.task.metric}",
        f"texts from {' and '.join(reading.text_columns)}, labels from {reading.label_column}: "
        f"{_labels(data)}",
    ]
    if reading.unread_columns:
        names = tuple(name or "(without a name)" for name in reading.unread_columns)
        lines.append(f"columns not read: {_some(names)}")
    if reading.ignored_files:
        lines.append(f"files not read: {_some(reading.ignored_files)}")
    return [*lines, *reading.told, *doubts_of(data)]


def doubts_of(data: TaskData) -> list[str]:
    """What may be amiss with the labels, or with the split."""
    found = []
    names = data.task.label_names
    if names and all(_is_whole(name) for name in names) and len(names) > 2:
        found.append(
            f"labels are whole numbers, {len(names)} of them, and taken for classes; are they "
            "values, give --metric pearson_spearman"
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


def _labels(data: TaskData) -> str:
    labels = np.asarray(data.train.labels)
    names = data.task.label_names
    if not names:
        return (
            f"values from {labels.min():.4g} to {labels.max():.4g}, {labels.mean():.4g} on average"
        )
    counts = np.bincount(labels, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    shares = [f"{names[row]} {counts[row] / len(labels):.1%}" for row in order[:_CLASSES_SHOWN]]
    more = f" and {len(names) - _CLASSES_SHOWN} more" if len(names) > _CLASSES_SHOWN else ""
    return f"{len(names)} classes, {', '.join(shares)}{more}"


def _alike(names: tuple[str, ...]) -> list[list[str]]:
    """Names that are one, but for case and blanks."""
    plain = {name: " ".join(name.split()).casefold() for name in names}
    counts = Counter(plain.values())
    return [
        [name for name in names if plain[name] == one] for one, count in counts.items() if count > 1
    ]


def _is_whole(name: str) -> bool:
    return name.lstrip("-").isdigit()


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
