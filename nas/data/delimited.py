"""Tables of text with a delimiter: CSV in its dialects, and files with tabs.

Their rows are held to the width of their header: one that does not fit is named, and none is cut,
joined to another or left out.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Literal

from supernet.errors import NasError

DELIMITERS = (",", ";", "\t", "|")
ENCODINGS = ("utf-8", "cp1252")
"""Tried in turn where no byte order mark tells."""

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_TOLD = re.compile(r"sep=(?P<delimiter>[,;|\t])\r?\n")
_LONGEST_FIELD = 2**31 - 1

Rows = list[list[str]]
Quoting = Literal[0, 3]
"""``csv.QUOTE_MINIMAL`` or ``csv.QUOTE_NONE``."""


def decoded(data: bytes) -> tuple[str, str]:
    """Text, and the encoding that it was in: UTF-8, UTF-16 by its mark, or else Windows-1252.

    Raises:
        NasError: none of these.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding), encoding
    if b"\0" in data[:4096]:
        raise NasError("holds NUL characters: save it as UTF-8")
    for encoding in ENCODINGS:
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError as found:
            error = found
    raise NasError(f"is neither UTF-8, UTF-16 nor Windows-1252: {error}")


@dataclass(frozen=True)
class Delimited:
    """A table as it is read.

    Args:
        rows: below the header, each as wide as it is.
    """

    header: list[str]
    rows: Rows
    delimiter: str


def delimiter_of(text: str, known: Collection[str]) -> str:
    """What stands between the names of the header: by most names that are known, then by most.

    Args:
        known: names of columns that are looked for.
    """
    header = next((line for line in text.splitlines() if line.strip()), "")

    def names(delimiter: str) -> list[str]:
        return [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]

    return max(DELIMITERS, key=lambda d: (sum(name in known for name in names(d)), len(names(d))))


def parse(text: str, known: Collection[str], label: str | None) -> Delimited:
    """A table whose first line names its columns.

    Quotes are CSV's. In a file with tabs they may be characters like others: they are, where they
    cannot be quotes. A line ``sep=;``, as Excel writes it, tells the delimiter.

    Args:
        known: names of columns that are looked for.
        label: the label's column, by whose values rows are told within an open quote.

    Raises:
        NasError: no header, a name twice, or a row that does not fit, with its number and line.
    """
    told = _TOLD.match(text)
    delimiter = told["delimiter"] if told else delimiter_of(text, known)
    text = text[told.end() :] if told else text
    try:
        return _parsed(text, delimiter, csv.QUOTE_MINIMAL, label)
    except NasError as error:
        if delimiter != "\t":
            raise
        try:
            return _parsed(text, delimiter, csv.QUOTE_NONE, label)
        except NasError:
            raise error from None


def _parsed(text: str, delimiter: str, quoting: Quoting, label: str | None) -> Delimited:
    rows, lines = [], []
    for line, row in _read(text, delimiter, quoting):
        rows.append(row)
        lines.append(line)
    if not rows:
        raise NasError("holds no header line")
    header, *rows = rows
    header = [name.strip() for name in header]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise NasError(f"has two columns {twice[0]!r}")
    for number, (line, row) in enumerate(zip(lines[1:], rows, strict=True), start=1):
        if len(row) != len(header):
            name = "a tab" if delimiter == "\t" else repr(delimiter)
            held = name if len(row) > len(header) else "a line break"
            raise NasError(
                f"row {number} (line {line}) has {len(row)} fields, the header {len(header)}: "
                f"a text that holds {held} must stand in double quotes"
            )
    if label in header:
        _check_quotes(rows, lines[1:], header.index(label), delimiter)
    return Delimited(header, rows, delimiter)


def _read(text: str, delimiter: str, quoting: Quoting) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the line that it begins on."""
    csv.field_size_limit(_LONGEST_FIELD)
    header = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(
        StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=quoting,
        strict=True,
        skipinitialspace=f"{delimiter} " in header,  # then so are the rows written
    )
    number = 0
    while True:
        begins = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise NasError(
                f"row {number} (line {begins}) does not end as it should ({error}): a double "
                "quote within quotes must be doubled, and each that opens must close"
            ) from error
        if row:
            yield begins, row
            number += 1


def _check_quotes(rows: Rows, lines: list[int], label: int, delimiter: str) -> None:
    """Refuse a row within whose quotes other rows stand, labels and all."""
    labels = {row[label] for row in rows}
    for number, row in enumerate(rows):
        for place, field in enumerate(row):
            if "\n" not in field:
                continue
            for fields in _seeming_rows(row, place, delimiter):
                if len(fields) == len(row) and fields[label] in labels:
                    raise NasError(
                        f"row {number + 1} (line {lines[number]}) holds other rows within its "
                        f"quotes, as {delimiter.join(fields)[:40]!r}: a double quote that opens is "
                        "left open"
                    )


def _seeming_rows(row: list[str], place: int, delimiter: str) -> Iterator[list[str]]:
    """What the lines of a field with several would be, were its quotes none."""
    first, *within, last = (line.rstrip("\r").split(delimiter) for line in row[place].split("\n"))
    if place < len(row) - 1:  # else the first line is a row of one field too few or too many
        yield [*row[:place], *first]
    yield from within
    if place == len(row) - 1:  # else it goes on in the next field
        yield last
