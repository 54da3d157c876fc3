"""Data for a task: examples, their task, and how a source is split into both.

A source's tables (:mod:`nas.data.sources`) become texts and labels by their columns
(:mod:`nas.data.columns`), and those the immutable, split examples of :class:`TaskData`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.data.columns import (
    TEXT_COLUMNS,
    find_text_columns,
    read_labels,
    read_texts,
    written_as,
)
from nas.data.pydoc import Progress, load_corpus
from nas.data.sources import PYDOC, listed, read_source, source_name
from nas.tasks.kind import Labels, Written
from nas.tasks.kinds import kind_of_metric
from nas.tasks.task import Task
from supernet.errors import NasError

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = 0.1
"""Share of the training examples that becomes a split which the source lacks."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts, or text pairs, with or without labels.

    Args:
        text_a: the text, or the first of a pair.
        text_b: the second of a pair; None for single texts.
        labels: int64 class indices or float64 values, ``(examples,)``; kept as a read-only copy.

    Raises:
        NasError: lengths that differ, or labels neither integer nor float.
    """

    text_a: tuple[str, ...]
    text_b: tuple[str, ...] | None = None
    labels: Labels | None = None

    def __post_init__(self) -> None:
        if self.text_b is not None and len(self.text_b) != len(self.text_a):
            raise NasError(f"text_b has {len(self.text_b)} texts, text_a {len(self.text_a)}")
        if self.labels is None:
            return
        if self.labels.shape != (len(self.text_a),):
            raise NasError(f"labels of shape {self.labels.shape} for {len(self.text_a)} texts")
        if self.labels.dtype.kind not in "if":
            raise NasError(f"labels must be integer or float, not {self.labels.dtype}")
        dtype = np.float64 if self.labels.dtype.kind == "f" else np.int64
        labels = self.labels.astype(dtype)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.text_a)

    def take(self, rows: Iterable[int]) -> Examples:
        """The examples at ``rows``, in that order."""
        picked = list(rows)
        return Examples(
            tuple(self.text_a[row] for row in picked),
            None if self.text_b is None else tuple(self.text_b[row] for row in picked),
            None if self.labels is None else self.labels[picked],
        )


@dataclass(frozen=True)
class Reading:
    """How data were read, for people.

    Args:
        text_columns, label_column: whose content was taken.
        unread_columns: the others.
        ignored_files: files of data in the folder that were passed over.
        told: what there is to say of single files.
        labels_as: what labels are written as.
        kind_is_open: whether no metric was asked for, which would tell classes from values.
    """

    text_columns: tuple[str, ...] = ("text",)
    label_column: str = "label"
    unread_columns: tuple[str, ...] = ()
    ignored_files: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    labels_as: Written = "text"
    kind_is_open: bool = True


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task and its examples. ``test`` is for the last figure alone, never for a choice.

    ``unlabelled`` holds further texts for distillation, none of them of validation or test.
    """

    task: Task
    train: Examples
    validation: Examples
    test: Examples
    unlabelled: tuple[str, ...] = ()
    reading: Reading = Reading()

    @property
    def splits(self) -> dict[str, Examples]:
        """The labelled splits by name, in this order: train, validation, test."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def labels(self, split: str) -> Labels:
        """The labels of a split, (examples,)."""
        return _labels(self.splits[split])

    @cached_property
    def digest(self) -> str:
        """The sha256 of the labelled splits' texts and labels and of the label names, in order."""
        digest = hashlib.sha256()
        for name, examples in self.splits.items():
            labels = None if examples.labels is None else examples.labels.tolist()
            content = [name, examples.text_a, examples.text_b, labels, self.task.label_names]
            digest.update(json.dumps(content).encode())
        return digest.hexdigest()


def load_data(
    source: str,
    *,
    text_columns: str | Sequence[str] | None = None,
    label_column: str = "label",
    metric: str | None = None,
    seed: int,
    limit: int | None = None,
    validation_limit: int | None = None,
    progress: Progress | None = None,
) -> TaskData:
    """Read a task's data and split it.

    Labels with fractions are values to regress on, all others classes; ``metric`` decides where it
    is given. Splits that the source lacks are taken, seeded and stratified: no
    validation: 10% of train; no test: the validation split becomes the test, and 10% of train
    the validation; neither: 10% each.

    Args:
        source: ``pydoc``; a folder with files named by split
            (:func:`nas.data.split_files.split_files`); a file (:data:`nas.data.tables.SUFFIXES`);
            or a hub name, ``name`` or ``name:configuration``.
        text_columns: the text's column, or both of a pair; by default the first of
            :data:`nas.data.columns.PAIR_COLUMNS`, then :data:`nas.data.columns.SINGLE_COLUMNS`,
            that is there.
        label_column: the label's column.
        metric: one of :data:`nas.tasks.kinds.METRICS`; by default the first of the labels' kind.
        seed: of the splits, of both limits and of pydoc's sample.
        limit: at most this many training examples, stratified.
        validation_limit: at most this many examples of validation, stratified. Test stays whole.
        progress: of pydoc, as in :func:`nas.data.pydoc.load_corpus`.

    Raises:
        NasError: whatever is wrong with the source, in one line.
    """
    if metric is not None:
        kind_of_metric(metric)  # refuses one that is unknown before anything is read
    for name, most in (("limit", limit), ("validation_limit", validation_limit)):
        if most is not None and most < 2:
            raise NasError(f"{name} must be at least 2 examples, not {most}")
    found = read_source(
        source, looked_for(text_columns, label_column), label_column, seed=seed, progress=progress
    )
    tables = found.tables
    extra = tables.pop("unlabelled", None)
    if "train" not in tables:
        raise NasError(f"data {source}: no train split; found {listed(tables)}")
    columns = find_text_columns(source, tables["train"], text_columns)
    kind, label_names, labels = read_labels(source, tables, label_column, metric)
    splits = _split(
        source,
        {name: examples_of(source, name, tables[name], columns, labels[name]) for name in tables},
        np.random.default_rng(seed),
    )
    held_out = set(_all_texts(splits["validation"])) | set(_all_texts(splits["test"]))
    for name, most in (("train", limit), ("validation", validation_limit)):
        if most is not None and most < len(splits[name]):
            rng = np.random.default_rng(seed)
            splits[name] = splits[name].take(_spread(_labels(splits[name]), most, rng))
    task = Task(
        source_name(source),
        kind,
        label_names,
        metric or kind.metric_names[0],
        len(columns) == 2,
        kind.units(_labels(splits["train"])),
    )
    unlabelled: tuple[str, ...] = ()
    if extra is not None:
        texts = _unlabelled(source, "unlabelled", extra, text_columns)
        unlabelled = tuple(text for text in dict.fromkeys(texts) if text not in held_out)
    unread = [str(name) for name in tables["train"] if name not in (*columns, label_column)]
    reading = Reading(
        columns, label_column, tuple(unread), found.ignored, found.told,
        labels_as=written_as(tables, label_column), kind_is_open=metric is None,
    )  # fmt: skip
    return TaskData(
        task, splits["train"], splits["validation"], splits["test"], unlabelled, reading
    )


def load_texts(
    source: str,
    *,
    text_columns: str | Sequence[str] | None = None,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Distinct texts for task-agnostic distillation, in the source's order; labels are ignored.

    A folder gives its ``train``, ``all`` and ``unlabelled`` files, never validation or test; both
    texts of a pair count. ``pydoc`` gives all its paragraphs; for a model to be tested on the
    pydoc task take :attr:`TaskData.unlabelled`, which leaves the held-out ones out. Arguments as
    in :func:`load_data`.

    Raises:
        NasError: as :func:`load_data`, or nothing to train on.
    """
    if source == PYDOC:
        return tuple(load_corpus(progress=progress)["text"])
    known = looked_for(text_columns, "label")
    tables = read_source(source, known, None, seed=0, progress=progress).tables
    texts: dict[str, None] = {}
    for name in ("train", "unlabelled"):
        if name in tables:
            texts.update(dict.fromkeys(_unlabelled(source, name, tables[name], text_columns)))
    if not texts:
        raise NasError(f"data {source}: no train or unlabelled split; found {listed(tables)}")
    return tuple(texts)


def looked_for(text_columns: str | Sequence[str] | None, label_column: str) -> tuple[str, ...]:
    """Names of the columns that a table is read for."""
    if text_columns is None:
        return (*TEXT_COLUMNS, label_column)
    texts = (text_columns,) if isinstance(text_columns, str) else tuple(text_columns)
    return (*texts, label_column)


def examples_of(
    source: str, split: str, table: pd.DataFrame, columns: Sequence[str], labels: Labels | None
) -> Examples:
    """The texts of a table's columns, with their labels.

    Raises:
        NasError: a column is absent, or holds something that is not text.
    """
    text_a, *text_b = read_texts(source, split, table, columns)
    return Examples(text_a, text_b[0] if text_b else None, labels)


def _all_texts(examples: Examples) -> tuple[str, ...]:
    return examples.text_a + (examples.text_b or ())


def _unlabelled(
    source: str, split: str, table: pd.DataFrame, requested: str | Sequence[str] | None
) -> tuple[str, ...]:
    columns = find_text_columns(source, table, requested)
    return _all_texts(examples_of(source, split, table, columns, None))


def _split(
    source: str, splits: dict[str, Examples], rng: np.random.Generator
) -> dict[str, Examples]:
    """Train, validation and test, whatever of the three there was besides train."""
    splits = dict(splits)
    count = max(1, round(HELD_OUT * len(splits["train"])))
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
    for name in ("test", "validation"):
        if name not in splits:
            splits["train"], splits[name] = _hold_out(source, splits["train"], count, rng)
    return splits


def _labels(examples: Examples) -> Labels:
    assert examples.labels is not None
    return examples.labels


def _hold_out(
    source: str, examples: Examples, count: int, rng: np.random.Generator
) -> tuple[Examples, Examples]:
    """The examples without ``count`` of them, and those; every class stays in the first."""
    labels = _labels(examples)
    eligible = np.arange(len(examples))
    if labels.dtype == np.int64:
        eligible = eligible[np.bincount(labels)[labels] > 1]
    if len(eligible) <= count:
        raise NasError(
            f"data {source}: {len(examples)} training examples are too few to hold out {count}"
        )
    held = eligible[_spread(labels[eligible], count, rng)]
    return examples.take(np.setdiff1d(np.arange(len(examples)), held)), examples.take(held)


def _spread(labels: Labels, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``count`` row numbers, ascending, that represent the labels: systematic sampling.

    Rows in random order are sorted by label and picked at even steps, so that each class has its
    share to within one, and of continuous labels every part of the range.
    """
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    steps = (np.arange(count) + rng.random()) * (len(labels) / count)
    return np.sort(by_label[steps.astype(np.int64)])
