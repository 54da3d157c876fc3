"""Which columns of a table hold texts and labels, and what kind of task the labels make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nas.data.sources import Tables, listed
from nas.tasks.kind import Kind, LabelColumn, Labels, Names, Written
from nas.tasks.kinds import kind_of_labels, kind_of_metric
from supernet.errors import NasError

if TYPE_CHECKING:
    import pandas as pd

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
) -> tuple[Kind, Names, Mapping[str, Labels]]:
    """The task's kind, its class names, and the labels of each split as indices or values.

    The metric decides on the kind where one is given. Else numbers that are all whole are classes,
    however they are written.

    Raises:
        NasError: a label is absent, of a type that is neither class nor value, or a class that
            train does not have.
    """
    found = labels_in(source, tables, column)
    kind = kind_of_labels(found) if metric is None else kind_of_metric(metric)
    names, labels = kind.read(found, None)
    return kind, names, labels


def labels_in(source: str, tables: Tables, column: str) -> LabelColumn:
    """The labels of all splits.

    Raises:
        NasError: a label is absent.
    """
    for split, table in tables.items():
        _check_labels(source, split, table, column)
    where = f"data {source}: label column {column!r}"
    return LabelColumn(where, {split: table[column] for split, table in tables.items()})


def written_as(tables: Tables, column: str) -> Written:
    """What the labels of all splits are written as."""
    kinds = {table[column].dtype.kind for table in tables.values()}
    if not kinds <= set("iuf"):
        return "text"
    return "float" if "f" in kinds else "integer"


def _check_labels(source: str, split: str, table: pd.DataFrame, column: str) -> None:
    """Refuse an absent column, and the first label that is absent from it."""
    _check_column(source, split, table, column, "label")
    absent = table[column].isna()
    for row, (value, is_absent) in enumerate(zip(table[column], absent, strict=True), start=1):
        if is_absent or (isinstance(value, str) and not value.strip()):
            raise NasError(
                f"data {source}: label column {column!r} is empty in row {row} of {split}"
            )


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
