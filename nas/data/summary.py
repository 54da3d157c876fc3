"""What people are told of data, so that a misreading shows before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.tasks.kind import ClassShare, ValueRange

if TYPE_CHECKING:
    from nas.data.task_data import Examples, TaskData

_CLASSES_SHOWN = 12
_NAMES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What was read of data, and what may be amiss.

    Args:
        splits: the number of examples in train, validation and test.
        text_columns, label_column: the columns that were read.
        unread_columns: the other columns.
        ignored_files: files of data in the folder that were not read.
        num_classes: 0 where labels are values.
        classes: the 20 largest, most frequent first.
        values: None where labels are classes.
        warnings: a line for each thing that may be amiss.
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
    reading, task = data.reading, data.task
    labels = task.kind.summary(task.label_names, data.labels("train"))
    return DataSummary(
        splits={name: len(examples) for name, examples in data.splits.items()},
        text_columns=reading.text_columns,
        label_column=reading.label_column,
        unread_columns=tuple(name or "(without a name)" for name in reading.unread_columns),
        ignored_files=reading.ignored_files,
        num_classes=labels.num_classes,
        classes=labels.classes,
        values=labels.values,
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
    task, reading = data.task, data.reading
    found = [
        *task.kind.misreadings(
            task.label_names, len(data.train), reading.labels_as, reading.kind_is_open
        )
    ]
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


def some(names: Sequence[str], shown: int = 20) -> str:
    """The first of names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
