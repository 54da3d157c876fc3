"""Examples that a finished model is scored on: all that is given, or a split as searches make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nas.data.columns import Labels, find_text_columns, named_labels, read_labels
from nas.data.sources import PYDOC, Tables, listed, read_source, source_name
from nas.data.split_files import split_files
from nas.data.task_data import Examples, examples_of, load_data, looked_for
from nas.tasks.metrics import REGRESSION_METRICS
from nas.tasks.task import Kind, Task
from supernet.errors import NasError

SPLITS = ("train", "validation", "test")


class HeldOut(NamedTuple):
    """What a model is scored on.

    Args:
        told: which examples these are, for people.
    """

    task: Task
    examples: Examples
    told: str


def load_held_out(
    source: str,
    split: str,
    classes: Sequence[str] | None,
    *,
    text_columns: str | Sequence[str] | None = None,
    label_column: str = "label",
    metric: str | None = None,
    seed: int,
) -> HeldOut:
    """All examples of a file, or of a folder without training data; else a split as searches make.

    Args:
        source: as :func:`nas.data.task_data.load_data` takes it.
        split: train, validation or test: of a folder that has it, or of what a search would split.
        classes: the model's, which may be more than the examples have; empty for a regression, None
            for those of the data.
        text_columns, label_column, metric, seed: as in :func:`nas.data.task_data.load_data`.

    Raises:
        NasError: as :func:`nas.data.task_data.load_data`; a split that is not there, or
            a label that is none of ``classes``.
    """
    if split not in SPLITS:
        raise NasError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    whole = _whole(source, split)
    if whole is None:
        data = load_data(
            source,
            text_columns=text_columns,
            label_column=label_column,
            metric=metric,
            seed=seed,
        )
        return HeldOut(data.task, data.splits[split], f"{split} split of {data.task.name}")
    known = looked_for(text_columns, label_column)
    tables = read_source(source, known, label_column, seed=seed, progress=None).tables
    table = {whole: tables[whole]}
    columns = find_text_columns(source, tables[whole], text_columns)
    kind, names, labels = _labelled(source, table, label_column, classes, metric)
    default = "accuracy" if kind == "classification" else REGRESSION_METRICS[0]
    task = Task(source_name(source), kind, names, metric or default, len(columns) == 2)
    examples = examples_of(source, whole, tables[whole], columns, labels)
    what = source_name(source) if Path(source).is_file() else f"{whole} of {source_name(source)}"
    return HeldOut(task, examples, f"all of {what}")


def _whole(source: str, split: str) -> str | None:
    """The table of a source that is to be taken whole; None where a search would split it."""
    path = Path(source).expanduser()
    if source == PYDOC or not path.exists():
        return None
    if path.is_file():
        return "train"  # as a single file's table is called
    present = [name for name in split_files(path).splits if name in SPLITS]
    if "train" in present:
        return None
    if split in present:
        return split
    if len(present) != 1:
        raise NasError(f"data {source}: no {split} split; found {listed(present)}")
    return present[0]


def _labelled(
    source: str, table: Tables, column: str, classes: Sequence[str] | None, metric: str | None
) -> tuple[Kind, tuple[str, ...], Labels]:
    """The kind of the task, the names of its classes, and the labels of its only table."""
    (name,) = table
    if classes is None or not classes:
        metric = metric or (REGRESSION_METRICS[0] if classes == () else None)
        kind, names, labels = read_labels(source, table | {"train": table[name]}, column, metric)
        return kind, names, labels[name]
    found = named_labels(source, name, table[name], column)
    places = {one: place for place, one in enumerate(classes)}
    for row, label in enumerate(found, start=1):
        if label not in places:
            raise NasError(
                f"data {source}: label {label!r} in row {row} is none of the model's classes, "
                f"{', '.join(list(classes)[:8])}"
            )
    return "classification", tuple(classes), np.array([places[one] for one in found], np.int64)
