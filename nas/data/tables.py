"""A table from one file: Parquet, Arrow, JSON, CSV and their like, compressed or not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.data.delimited import decoded, parse
from supernet.errors import NasError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SUFFIXES = (".parquet", ".arrow", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
"""Files that are read; those of text with ``.gz`` after it, too, and all in capitals."""

_COMPRESSED = ".gz"


def kind_of(path: Path) -> str | None:
    """Which of :data:`SUFFIXES` a file's name ends in, if any."""
    name = path.name.lower().removesuffix(_COMPRESSED)
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def stem_of(path: Path) -> str:
    """A file's name without what tells its kind, in small letters."""
    name = path.name.lower().removesuffix(_COMPRESSED)
    return name.removesuffix(kind_of(path) or "")


def read_table(path: Path, known: tuple[str, ...], label: str | None) -> tuple[pd.DataFrame, str]:
    """A file's table, and what there is to say of how it was read.

    Args:
        known: names of columns that are looked for, by which CSV's delimiter is told.
        label: the column whose numbers and class names are recognised; None leaves labels alone.

    Raises:
        NasError: a file of another kind, or one that is not sound.
    """
    kind = kind_of(path)
    if kind is None:
        raise NasError(
            f"data {path}: unknown file type; accepted: {', '.join(SUFFIXES)}, and those of text "
            "with .gz after it"
        )
    try:
        if kind in (".parquet", ".arrow"):
            return _frame(_arrow_table(path, kind), label), ""
        return _read_text(path, kind, known, label)
    except (OSError, ValueError, NasError) as error:
        raise NasError(f"data {path}: not readable as {kind[1:]}: {_one_line(error)}") from error


def _arrow_table(path: Path, kind: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if kind == ".parquet":
        return pq.ParquetFile(path).read()  # not read_table, which sees columns in folders' names
    with pa.memory_map(str(path)) as source:  # as datasets writes it: a stream, else a file
        try:
            return pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_file(source).read_all()


def _frame(table: pa.Table, label: str | None) -> pd.DataFrame:
    """With class names in place of their numbers, where ``datasets`` wrote them to the schema."""
    frame = table.to_pandas()
    names = _class_names(table.schema.metadata or {}, label)
    return frame if names is None else with_names(frame, label, names)


def _class_names(metadata: dict[bytes, bytes], label: str | None) -> list[str] | None:
    """Of a ``ClassLabel`` in the features that ``datasets`` writes beside a schema."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        feature = features[label]
        return list(map(str, feature["names"])) if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None


def with_names(frame: pd.DataFrame, label: str | None, names: list[str]) -> pd.DataFrame:
    """A table with class names for the numbers in a column; -1, and what is absent, has none."""
    import pandas as pd

    codes = frame[label].fillna(-1).astype(int)
    if codes.max() >= len(names):
        raise NasError(f"column {label!r} holds {codes.max()}, and there are {len(names)} classes")
    frame[label] = pd.Categorical.from_codes(codes.clip(lower=-1), names)
    return frame


def _read_text(
    path: Path, kind: str, known: tuple[str, ...], label: str | None
) -> tuple[pd.DataFrame, str]:
    import pandas as pd

    data = path.read_bytes()
    text, encoding = decoded(gzip.decompress(data) if path.suffix.lower() == _COMPRESSED else data)
    told = (
        f"{path.name} was read as Windows-1252, as it is no UTF-8" if encoding == "cp1252" else ""
    )
    if kind in (".csv", ".tsv"):
        found = parse(text, known, label)
        # Everything as it stands in the file: "None" or "007" may well be a text.
        columns = zip(*found.rows, strict=True) if found.rows else ([] for _ in found.header)
        named = dict(zip(found.header, map(list, columns), strict=True))
        return _with_numbers(pd.DataFrame(named, dtype=object), label, found.delimiter), told
    if kind == ".json":
        return pd.DataFrame(_objects(text)), told
    return pd.DataFrame(_lines(text)), told


def _with_numbers(table: pd.DataFrame, label: str | None, delimiter: str) -> pd.DataFrame:
    """With labels as numbers where all of them are; ``0,5`` is one where commas delimit nothing."""
    import pandas as pd

    if label in table:
        values = table[label]
        if delimiter != "," and values.str.fullmatch(r"\s*-?\d+(,\d+)?\s*").all():
            values = values.str.replace(",", ".")
        numbers = pd.to_numeric(values, errors="coerce")
        if numbers.notna().all():
            table[label] = numbers
    return table


def _objects(text: str) -> Any:
    """The rows of a JSON document: an array of objects, alone or as the one array in an object, an
    object of columns, or an object a line.
    """
    try:
        content = json.loads(text)
    except ValueError:
        return _lines(text)
    if isinstance(content, dict):
        arrays = [value for value in content.values() if isinstance(value, list)]
        if len(arrays) == len(content) > 1 and len({len(one) for one in arrays}) == 1:
            return content
        content = arrays[0] if len(arrays) == 1 else [content]
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise ValueError("it must hold an array of objects, one for each example")
    return content


def _lines(text: str) -> list[dict[str, Any]]:
    """The objects of JSON lines."""
    # Not splitlines(): a JSON string may hold U+2028 and the like as they are.
    lines = enumerate(text.split("\n"), start=1)
    return [_object(line, number) for number, line in lines if line.strip()]


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"line {number} must be an object, not {line[:40]!r}")
    return value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
