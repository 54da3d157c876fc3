"""A first look at a table's file: is it what its name says, and no larger than may be read?

The file is read in pieces and strictly. A file that passes can be given to lenient readers, which
read it whole.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas.service.plain_text import check_text
from nas.service.uploads.strict_json import parse_json
from supernet.errors import NasError

if TYPE_CHECKING:
    import pyarrow as pa

UPLOADED = (".parquet", ".csv", ".jsonl")
"""The endings of files in which a data set may be uploaded."""

ROWS = 5_000_000
"""Of all splits."""
COLUMNS = 256
CELL_CHARACTERS = 1_000_000
COLUMN_NAME_CHARACTERS = 100
_LINE_CHARACTERS = 4 * CELL_CHARACTERS
_BATCH = 4096


def scan(path: Path, unpacked_bytes: int) -> int:
    """The number of rows in a file.

    Args:
        path: a file with one of the endings :data:`UPLOADED`.
        unpacked_bytes: how much text a Parquet file may hold, counting each repeated value.

    Raises:
        NasError: the content is not what the name says, is damaged, ragged, not UTF-8 or too large.
    """
    readers: dict[str, Callable[[Path], int]] = {
        ".parquet": partial(_parquet_rows, unpacked_bytes=unpacked_bytes),
        ".csv": _csv_rows,
        ".jsonl": _json_rows,
    }
    if not path.stat().st_size:
        raise NasError(f"{path.name} is empty")
    try:
        rows = readers[path.suffix](path)
    except UnicodeDecodeError as error:
        raise NasError(f"{path.name} is not UTF-8: {error.reason}, byte {error.start}") from error
    if not rows:
        raise NasError(f"{path.name} has no rows")
    return rows


def check_columns(where: str, names: Sequence[str]) -> None:
    """Refuse columns if they are too many, or a name is too long, not plain, or there twice.

    Raises:
        NasError: naming the first that is not accepted.
    """
    if len(names) > COLUMNS:
        raise NasError(f"{where} has {len(names)} columns; accepted are {COLUMNS} at most")
    for index, name in enumerate(names):
        check_text(f"{where}: column name", name, most=COLUMN_NAME_CHARACTERS)
        if name in names[:index]:
            raise NasError(f"{where} has two columns {name!r}")


def _check_rows(path: Path, rows: int) -> None:
    if rows > ROWS:
        raise NasError(f"{path.name} has more than {ROWS:,} rows")


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file with their line ends, each of a limited length."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        number = 0
        while line := file.readline(_LINE_CHARACTERS):
            number += 1
            if len(line) == _LINE_CHARACTERS:
                raise NasError(
                    f"{path.name}: line {number} has {_LINE_CHARACTERS:,} characters or more"
                )
            if "\0" in line:
                raise NasError(f"{path.name}: line {number} holds a NUL character")
            yield line


def _csv_rows(path: Path) -> int:
    csv.field_size_limit(CELL_CHARACTERS)
    reader = csv.reader(_lines(path), strict=True)
    header: list[str] | None = None
    rows = 0
    try:
        for row in reader:
            if not row:
                continue
            if header is None:
                header = row
                check_columns(path.name, header)
                _refuse_json(path)
                continue
            rows += 1
            if len(row) != len(header):
                raise NasError(
                    f"{path.name}: line {reader.line_num} has {len(row)} cells, "
                    f"the header {len(header)}"
                )
            _check_rows(path, rows)
    except csv.Error as error:
        raise NasError(f"{path.name}: line {reader.line_num}: {error}") from error
    return rows


def _refuse_json(path: Path) -> None:
    """Refuse JSON lines that are named .csv: most of them can be read as CSV, but wrongly."""
    try:
        found = parse_json(next(_lines(path)))
    except NasError:
        return
    if isinstance(found, dict):
        raise NasError(f"{path.name} holds JSON: name it .jsonl")


def _json_rows(path: Path) -> int:
    columns: dict[str, None] = {}
    rows = 0
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except NasError as error:
            raise NasError(f"{path.name}: line {number}: {error}") from error
        if not isinstance(value, dict):
            raise NasError(f"{path.name}: line {number} must be an object")
        for name, cell in value.items():
            _check_json_cell(f"{path.name}: line {number}", name, cell)
        rows += 1
        _check_rows(path, rows)
        if not value.keys() <= columns.keys():
            columns |= dict.fromkeys(value)
            check_columns(path.name, tuple(columns))
    return rows


def _check_json_cell(where: str, name: str, cell: Any) -> None:
    if isinstance(cell, dict | list):
        raise NasError(
            f"{where}: {name[:40]!r} holds a {'list' if isinstance(cell, list) else 'object'}; "
            "accepted are text, numbers, true, false and null"
        )
    if isinstance(cell, str) and len(cell) > CELL_CHARACTERS:
        raise NasError(f"{where}: {name[:40]!r} has more than {CELL_CHARACTERS:,} characters")


def _parquet_rows(path: Path, unpacked_bytes: int) -> int:
    """The number of rows. Texts are read as dictionaries, which is how most files hold them, so a
    value that is repeated a million times is checked once.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        if start != b"PAR1" or file.read() != b"PAR1":
            raise NasError(f"{path.name} is no whole Parquet file")
    rows = written_out = 0
    with pq.ParquetFile(path) as file:
        texts = [field.name for field in file.schema_arrow if kind_of(field.type) == "text"]
    with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=texts) as file:
        schema = file.schema_arrow
        stated = file.metadata.num_rows
        check_columns(path.name, schema.names)
        _check_rows(path, stated)
        for field in schema:
            _check_type(path, field)
        for batch in file.iter_batches(batch_size=_BATCH, use_threads=False):
            batch.validate(full=True)
            rows += batch.num_rows
            _check_rows(path, rows)
            for name, column in zip(schema.names, batch.columns, strict=True):
                is_encoded = pa.types.is_dictionary(column.type)
                values = column.dictionary if is_encoded else column
                if kind_of(values.type) != "text":
                    continue
                lengths = pc.binary_length(values)
                longest = pc.max(lengths).as_py() or 0
                if longest > 4 * CELL_CHARACTERS:
                    raise NasError(f"{path.name}: a text of column {name!r} has {longest:,} bytes")
                each = lengths.take(column.indices) if is_encoded else lengths
                written_out += pc.sum(pc.cast(each, pa.int64())).as_py() or 0
                if written_out > unpacked_bytes:
                    raise NasError(f"{path.name} holds more than {unpacked_bytes:,} bytes of text")
    if rows != stated:
        raise NasError(f"{path.name} states {stated} rows and has {rows}")
    return rows


def kind_of(kind: pa.DataType) -> Literal["text", "whole", "number", "boolean"] | None:
    """What a column of a type holds; None where that is not accepted."""
    import pyarrow as pa

    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_floating(kind):
        return "number"
    return "boolean" if pa.types.is_boolean(kind) else None


def _check_type(path: Path, field: Any) -> None:
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if kind_of(kind) is None and not pa.types.is_null(kind):
        raise NasError(
            f"{path.name}: column {field.name!r} is of type {str(kind)[:60]}; "
            "accepted are text, numbers and booleans"
        )
