"""Examples that a finished model is scored on: all that is given, or a split as searches make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nas.data.columns import find_text_columns, labels_in, read_labels
from nas.data.sources import PYDOC, Tables, listed, read_source, source_name
from nas.data.split_files import split_files
from nas.data.task_data import Examples, examples_of, load_data, looked_for
from nas.tasks.kind import Labels
from nas.tasks.kinds import Head
from nas.tasks.task import Task
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
    head: Head | None,
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
        head: the model's, whose classes may be more than the examples have; None where the data
            tell the classes.
        text_columns, label_column, metric, seed: as in :func:`nas.data.task_data.load_data`.

    Raises:
        NasError: as :func:`nas.data.task_data.load_data`; a split that is not there, or
            a label that is none of the head's classes.
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
    (kind, names), labels = _labelled(source, table, label_column, head, metric)
    metric = metric or kind.metric_names[0]
    task = Task(source_name(source), kind, names, metric, len(columns) == 2)
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
    source: str, table: Tables, column: str, head: Head | None, metric: str | None
) -> tuple[Head, Labels]:
    """The kind of the task with the names of its classes, and the labels of its only table."""
    (name,) = table
    tables = table | {"train": table[name]}
    if head is None:
        kind, names, labels = read_labels(source, tables, column, metric)
        return Head(kind, names), labels[name]
    _, labels = head.kind.read(labels_in(source, tables, column), head.names)
    return head, labels[name]
