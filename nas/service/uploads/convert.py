"""An uploaded data set as plain Parquet, with a file for each split; this code runs confined.

The upload is read as ``nas search --data`` reads it, so a search sees the same task in the files
that are kept as in those that were sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.data.columns import TEXT_COLUMNS, find_text_columns
from nas.data.sources import Tables, listed, read_source
from nas.data.task_data import TaskData, load_data, load_texts
from nas.service.plain_text import check_text
from nas.service.uploads.archives import ArchiveLimits, unpack
from nas.service.uploads.scan import ROWS, UPLOADED, check_columns, kind_of, scan
from supernet.errors import NasError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

KEPT = "kept"
"""Where a confined function leaves what is to be kept, in a folder with the upload's name."""

_LABEL = "label"
_SHOWN_CHARACTERS = 200
_SHOWN_NAMES = 100
_CLASSES = 10_000
_CLASS_CHARACTERS = 200


def convert_dataset(upload: str, name: str, unpacked_bytes: int) -> dict[str, Any]:
    """Write ``kept/<name>/<split>.parquet``, and describe it.

    Args:
        upload: a file in the working directory: ``.parquet``, ``.csv``, ``.jsonl`` or ``.zip``.
        name: of the data set.
        unpacked_bytes: how much an archive may hold.

    Returns:
        ``splits``, ``columns``, ``labels`` and ``example``, as the service's table keeps them.

    Raises:
        NasError: what is wrong with it, in one line.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_memory_pool(pa.system_memory_pool())  # other pools reserve gigabytes of addresses
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    source = Path(upload)
    if source.suffix == ".zip":
        files = unpack(source, Path("files"), UPLOADED, ArchiveLimits(unpacked_bytes))
        source = Path("files")
    else:
        files = [source]
    kinds = {path.suffix for path in files}
    if len(kinds) > 1:
        raise NasError(f"files must be of one kind, not {listed(sorted(kinds))}")
    if sum(scan(path, unpacked_bytes) for path in files) > ROWS:
        raise NasError(f"it has more than {ROWS:,} rows")
    known = (*TEXT_COLUMNS, _LABEL)
    tables = read_source(str(source), known, None, seed=0, progress=None).tables
    if not {"train", "unlabelled"} & set(tables):
        raise NasError(f"it has no train split; found {listed(tables)}")
    folder = Path(KEPT) / name
    folder.mkdir(parents=True)
    for split, table in tables.items():
        if kinds == {".csv"}:
            tables[split] = table = _with_numbers(table)
        pq.write_table(_plain(split, table), folder / f"{split}.parquet")
    return _described(folder, name, tables)


def _with_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers in columns that hold numbers alone, as a label is read from CSV."""
    import pandas as pd

    changed = {}
    for column in table.columns:
        numbers = pd.to_numeric(table[column], errors="coerce")
        if column not in TEXT_COLUMNS and numbers.notna().all():
            changed[column] = numbers
    return table.assign(**changed)


def _plain(split: str, table: pd.DataFrame) -> pa.Table:
    """The table as columns of text, numbers and booleans.

    Raises:
        NasError: a column is of another type or of mixed types, or holds an infinite number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {}
    check_columns(split, [str(name) for name in table.columns])
    for name, column in table.items():
        where = f"column {str(name)!r} of {split}"
        if column.dtype == "category":
            column = column.astype(column.cat.categories.dtype)
        try:
            array = pa.Array.from_pandas(column)
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            raise NasError(
                f"{where} must hold text alone, numbers alone or booleans alone: {error}"
            ) from error
        if pa.types.is_null(array.type):
            array = array.cast(pa.string())
        kind = kind_of(array.type)
        if kind is None:
            raise NasError(f"{where} holds {array.type}; accepted are text, numbers and booleans")
        if kind == "text" and pc.any(pc.match_substring(array, "\0")).as_py():
            raise NasError(f"{where} holds a NUL character")
        if kind == "number" and pc.any(pc.is_inf(array)).as_py():
            raise NasError(f"{where} holds an infinite number")
        columns[str(name)] = array
    return pa.table(columns)


def _described(folder: Path, name: str, tables: Tables) -> dict[str, Any]:
    import pyarrow.parquet as pq

    main = "train" if "train" in tables else "unlabelled"
    schema = pq.read_schema(folder / f"{main}.parquet")
    columns = {field.name: kind_of(field.type) for field in schema}
    with chdir(folder.parent):  # so that messages give the data set's name, and no path
        texts = _text_columns(name, tables[main], columns)
        if main == "train" and _LABEL in columns:
            labels = _labels(_load(name, texts))
        else:
            load_texts(name, text_columns=texts)
            labels = None
    return {
        "splits": {split: len(table) for split, table in tables.items()},
        "columns": [{"name": column, "kind": kind} for column, kind in columns.items()],
        "labels": labels,
        "example": {str(key): _shown(value) for key, value in tables[main].iloc[0].items()},
    }


def _text_columns(
    name: str, table: pd.DataFrame, columns: Mapping[str, str | None]
) -> tuple[str, ...]:
    """The columns in which a search finds the texts, or the first that a request could name."""
    try:
        return find_text_columns(name, table, None)
    except NasError:
        texts = [column for column, kind in columns.items() if kind == "text" and column != _LABEL]
        if not texts:
            raise
        return (texts[0],)


def _load(name: str, text_columns: tuple[str, ...]) -> TaskData:
    """The task as a search would read it, be it a classification or a regression.

    Raises:
        NasError: it is neither a classification nor a regression.
    """
    try:
        return load_data(name, text_columns=text_columns, label_column=_LABEL, seed=0)
    except NasError as error:
        try:  # whole numbers may be values of a regression: train need not hold each of them
            return load_data(name, text_columns=text_columns, metric="pearson_spearman", seed=0)
        except NasError:
            raise error from None


def _labels(data: TaskData) -> dict[str, Any]:
    names = data.task.label_names
    longest = max(names, key=len, default="")
    if len(names) > _CLASSES or len(longest) > _CLASS_CHARACTERS:
        raise NasError(
            f"column {_LABEL!r} has {len(names)} classes, the longest of {len(longest)} "
            f"characters; accepted are {_CLASSES:,} of {_CLASS_CHARACTERS} characters"
        )
    for name in names:
        check_text(f"column {_LABEL!r}: class", name)
    return {
        "kind": data.task.kind.name,
        "classes": len(names) or None,
        "names": [_shown(name) for name in names[:_SHOWN_NAMES]],
    }


def _shown(value: Any) -> Any:
    """A cell as JSON: a long text is cut, and an absent value is null."""
    if isinstance(value, str):
        return value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}…"
    if value is None or value != value:
        return None
    return value.item() if isinstance(value, np.generic) else value
