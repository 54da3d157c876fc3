"""Which columns of a table hold texts and labels, and what kind of task the labels make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas.data.sources import Tables, listed
from nas.tasks.metrics import REGRESSION_METRICS
from nas.tasks.task import Kind
from supernet.errors import NasError

if TYPE_CHECKING:
    import pandas as pd

Written = Literal["integer", "float", "text"]
Labels = NDArray[np.int64] | NDArray[np.float64]
"""Class indices or values, (examples,)."""

PAIR_COLUMNS = (
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
)
_LONGEST_NAME = 40

SINGLE_COLUMNS = ("text", "sentence", "question", "content")
TEXT_COLUMNS = (*SINGLE_COLUMNS, *dict.fromkeys(name for pair in PAIR_COLUMNS for name in pair))
"""All names by which texts are found."""


def find_text_columns(
    source: str, table: pd.DataFrame, requested: str | Sequence[str] | None
) -> tuple[str, ...]:
    """The text's column, or both of a pair: those requested, else the first that are there.

    Raises:
        NasError: none of the usual names is there, or three or more are requested.
    """
    if requested is None:
        for columns in (*PAIR_COLUMNS, *((single,) for single in SINGLE_COLUMNS)):
            if all(column in table for column in columns):
                return columns
        pairs = (" + ".join(pair) for pair in PAIR_COLUMNS)
        raise NasError(
            f"data {source}: no text column among {_shown(table)}; name it (--text), or use one of "
            f"{', '.join((*SINGLE_COLUMNS, *pairs))}"
        )
    columns = (requested,) if isinstance(requested, str) else tuple(requested)
    if len(columns) not in (1, 2):
        raise NasError(f"text_columns must be one column or two, not {columns}")
    return columns


def read_texts(
    source: str, split: str, table: pd.DataFrame, columns: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """The texts of each of ``columns``, in the table's order.

    Raises:
        NasError: a column is absent, or holds something that is not text.
    """
    import pandas as pd

    texts = []
    for column in columns:
        _check_column(source, split, table, column, "text")
        values = tuple(table[column])
        for row, value in enumerate(values, start=1):
            if not isinstance(value, str):
                raise NasError(
                    f"data {source}: column {column!r} of {split} must hold text; "
                    f"row {row} holds {'nothing' if pd.isna(value) is True else repr(value)}"
                )
        texts.append(values)
    return tuple(texts)


def read_labels(
    source: str, tables: Tables, column: str, metric: str | None
) -> tuple[Kind, tuple[str, ...], Mapping[str, Labels]]:
    """The task's kind, its class names, and the labels of each split as indices or values.

    Numbers that are all whole are classes, however they are written, unless the metric is a
    regression's.

    Raises:
        NasError: a label is absent, of a type that is neither class nor value, or a class that
            train does not have.
    """
    import pandas as pd

    where = f"data {source}: label column {column!r}"
    for split, table in tables.items():
        _check_labels(source, split, table, column)
    columns = {split: table[column] for split, table in tables.items()}
    together = pd.concat(columns.values(), ignore_index=True)
    holds = pd.api.types.infer_dtype(together)
    if holds == "mixed-integer-float":
        holds = "floating"
    if holds not in ("integer", "floating", "string", "boolean", "categorical"):
        raise NasError(f"{where} holds {holds} values; accepted: all integer, text, bool or float")
    distinct = set(columns["train"].tolist())
    if len(distinct) == 1:
        raise NasError(f"{where} is {distinct.pop()!r} in every row of train: nothing to learn")
    fractions = holds == "floating" and bool((together.astype(float) % 1 != 0).any())
    if metric in REGRESSION_METRICS or (metric is None and fractions):
        return "regression", (), _values(where, columns, holds)
    names, indices = _classes(where, columns, holds)
    return "classification", names, indices


def written_as(tables: Tables, column: str) -> Written:
    """What the labels of all splits are written as: as ``float`` where some are, as text where
    some are no numbers.
    """
    kinds = {table[column].dtype.kind for table in tables.values()}
    if not kinds <= set("iuf"):
        return "text"
    return "float" if "f" in kinds else "integer"


def named_labels(source: str, split: str, table: pd.DataFrame, column: str) -> list[str]:
    """The labels of a table by the names that :func:`read_labels` gives their classes.

    Raises:
        NasError: a label is absent.
    """
    _check_labels(source, split, table, column)
    return [_name(value) for value in table[column].tolist()]


def _name(value: object) -> str:
    """Of a class: whole numbers have one, however they are written."""
    return str(int(value) if isinstance(value, float) and value % 1 == 0 else value)


def _check_labels(source: str, split: str, table: pd.DataFrame, column: str) -> None:
    """Refuse an absent column, and the first label that is absent from it."""
    _check_column(source, split, table, column, "label")
    absent = table[column].isna()
    for row, (value, is_absent) in enumerate(zip(table[column], absent, strict=True), start=1):
        if is_absent or (isinstance(value, str) and not value.strip()):
            raise NasError(
                f"data {source}: label column {column!r} is empty in row {row} of {split}"
            )


def _values(
    where: str, columns: dict[str, pd.Series[Any]], holds: str
) -> dict[str, NDArray[np.float64]]:
    if holds not in ("integer", "floating"):
        example = columns["train"].iloc[0]
        raise NasError(f"{where} must be numeric for a regression, not {example!r}")
    values = {split: column.to_numpy(np.float64) for split, column in columns.items()}
    for split, array in values.items():
        if not np.isfinite(array).all():
            raise NasError(f"{where} is infinite in row {np.isinf(array).argmax() + 1} of {split}")
    return values


def _classes(
    where: str, columns: dict[str, pd.Series[Any]], holds: str
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Class names, which train alone defines unless the source states them, and indices."""
    train = set(columns["train"].tolist())
    for split, column in columns.items():
        for value in column.tolist():
            if holds == "floating" and value % 1:
                raise NasError(f"{where} must hold classes for such a metric, not {value!r}")
            if value not in train:
                raise NasError(f"{where} is {value!r} in {split}, a class that train has not")
    order = list(columns["train"].cat.categories) if holds == "categorical" else sorted(train)
    index = {value: number for number, value in enumerate(order)}
    names = tuple(map(_name, order))
    return names, {
        split: np.array([index[value] for value in column.tolist()], np.int64)
        for split, column in columns.items()
    }


def _check_column(source: str, split: str, table: pd.DataFrame, column: str, use: str) -> None:
    if column not in table:
        raise NasError(
            f"data {source}: no {use} column {column!r} in {split}; found {_shown(table)}; name "
            f"another with --{use}"
        )


def _shown(table: pd.DataFrame) -> str:
    """The names of a table's columns, which are texts where a file begins without names."""
    names = [str(name) for name in table]
    shown = listed(
        name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in names
    )
    odd = any(len(name) > _LONGEST_NAME or " " in name.strip() for name in names)
    return f"{shown} (does the file begin with a line of names?)" if odd else shown
