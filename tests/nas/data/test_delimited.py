"""CSV in its dialects: what was written is what is read, or one line names the row."""

from __future__ import annotations

import csv
import re
from io import StringIO

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nas.data.delimited import DELIMITERS, decoded, delimiter_of, parse
from supernet.errors import NasError

KNOWN = ("text", "label", "sentence")
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40
) | st.text("ab,;|\t\"'\n\r \\é", max_size=12)
LABELS = st.sampled_from(["yes", "no", "0", "1.5"])
TABLES = st.lists(st.tuples(TEXTS, LABELS), min_size=1, max_size=12)


def written(rows: list[tuple[str, ...]], delimiter: str, quoting: int, newline: str) -> str:
    text = StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=newline)
    writer.writerow(("text", "label"))
    writer.writerows(rows)
    return text.getvalue()


def outcome(text: str) -> tuple[str, list[str], list[list[str]]]:
    """What is said of a file; its header and rows, where nothing is."""
    try:
        found = parse(text, KNOWN, "label")
        return "", found.header, found.rows
    except NasError as error:
        return str(error), [], []


@given(
    rows=TABLES,
    delimiter=st.sampled_from(DELIMITERS),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    newline=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_writer_wrote_is_read(
    rows: list[tuple[str, str]], delimiter: str, quoting: int, newline: str, encoding: str
) -> None:
    """Or refused in one line, where a quoted text looks like rows of the table itself."""
    if quoting == csv.QUOTE_MINIMAL:  # which leaves a carriage return without quotes
        assume(not any("\r" in text for text, _ in rows))
    content = written(rows, delimiter, quoting, newline)
    text, _ = decoded(content.encode(encoding))
    told, header, found = outcome(text)
    if told:
        assert "within its quotes" in told
        assert any("\n" in one for one, _ in rows)
        return
    assert header == ["text", "label"]
    assert found == [list(row) for row in rows]


@given(
    rows=st.lists(st.tuples(st.text("ab ", max_size=8), LABELS), min_size=2, max_size=12),
    delimiter=st.sampled_from(DELIMITERS),
    data=st.data(),
)
def test_nothing_is_lost_to_a_stray_character(
    rows: list[tuple[str, str]], delimiter: str, data: st.DataObject
) -> None:
    """A delimiter or a quote anywhere in a text: all texts are read whole, or a row is named."""
    at = data.draw(st.integers(0, len(rows) - 1))
    text, label = rows[at]
    place = data.draw(st.integers(0, len(text)))
    stray = data.draw(st.sampled_from([delimiter, '"', '"' + delimiter, '""']))
    broken = [*rows[:at], (text[:place] + stray + text[place:], label), *rows[at + 1 :]]
    content = "\n".join(delimiter.join(row) for row in [("text", "label"), *broken]) + "\n"
    told, _, found = outcome(content)
    if told:
        assert re.search(r"row \d+ \(line \d+\)", told)
        return
    assert len(found) == len(rows)
    for row, (wanted, wanted_label) in zip(found, broken, strict=True):
        assert row[1] == wanted_label
        # Quotes about a whole text are CSV's own, and two within them are one.
        assert row[0] in (wanted, wanted[1:-1].replace('""', '"'))


def test_an_unquoted_delimiter_names_its_row() -> None:
    with pytest.raises(NasError, match=r"row 2 \(line 3\) has 3 fields, the header 2: a text that"):
        parse("text,label\nplain,a\nDear shop, hello,b\n", KNOWN, "label")


def test_an_open_quote_names_its_row() -> None:
    lines = ["text,label", "plain,a", '"open,b', "other,a", 'last",b']
    with pytest.raises(NasError, match=r"row 2 \(line 3\) holds other rows within its quotes"):
        parse("\n".join(lines), KNOWN, "label")
    with pytest.raises(NasError, match=r"row 2 \(line 3\) does not end as it should"):
        parse("\n".join(lines[:4]), KNOWN, "label")


def test_an_open_quote_in_the_last_column_names_its_row() -> None:
    lines = ["label,text", "a,plain", 'b,"open', "a,other", 'b,last"']
    with pytest.raises(NasError, match=r"row 2 \(line 3\) holds other rows within its quotes"):
        parse("\n".join(lines), KNOWN, "label")


def test_texts_of_several_lines_are_read_in_the_last_column() -> None:
    text = 'label,text\na,"two\nlines"\nb,plain\n'
    assert parse(text, KNOWN, "label").rows == [["a", "two\nlines"], ["b", "plain"]]


def test_texts_of_several_lines_are_read() -> None:
    text = 'text,label\n"Dear shop,\n\nwhere is it?\nYours, A",a\nplain,b\n'
    assert parse(text, KNOWN, "label").rows == [
        ["Dear shop,\n\nwhere is it?\nYours, A", "a"],
        ["plain", "b"],
    ]


def test_quotes_in_a_file_with_tabs_may_be_plain_characters() -> None:
    text = 'text\tlabel\n"Great", he said\ta\n5" nails\tb\n'
    assert parse(text, KNOWN, "label").rows == [['"Great", he said', "a"], ['5" nails', "b"]]


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("text,label", ","),
        ("text;label", ";"),
        ("text|label", "|"),
        ("text\tlabel", "\t"),
        ("id;text, as it was;text;label", ";"),
        ("sentence", ","),
        ("\n\nlabel;text", ";"),
    ],
)
def test_the_delimiter_is_that_of_the_names(header: str, delimiter: str) -> None:
    assert delimiter_of(header + "\n1,2;3\n", KNOWN) == delimiter


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("né".encode(), "né", "utf-8"),
        ("né".encode("utf-8-sig"), "né", "utf-8-sig"),
        ("né".encode("utf-16"), "né", "utf-16"),
        (b"\xfe\xff" + "né".encode("utf-16-be"), "né", "utf-16"),
        ("né €".encode("cp1252"), "né €", "cp1252"),
    ],
)
def test_encodings(data: bytes, text: str, encoding: str) -> None:
    assert decoded(data) == (text, encoding)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [(b"\x81\x8d", "neither UTF-8, UTF-16 nor Windows-1252"), ("né".encode("utf-16-le"), "NUL")],
)
def test_what_is_no_text(data: bytes, complaint: str) -> None:
    with pytest.raises(NasError, match=complaint):
        decoded(data)


def test_excels_line_tells_the_delimiter() -> None:
    found = parse("sep=;\r\ntext;label\r\na, b;c\r\n", KNOWN, "label")
    assert (found.delimiter, found.rows) == (";", [["a, b", "c"]])


def test_blanks_after_the_delimiter_are_not_the_fields() -> None:
    found = parse('text, label\n"a, b", yes\nc d, no\n', KNOWN, "label")
    assert found.header == ["text", "label"]
    assert found.rows == [["a, b", "yes"], ["c d", "no"]]


def test_a_line_break_without_quotes_names_its_row() -> None:
    with pytest.raises(NasError, match=r"row 1 \(line 2\) has 1 fields.* holds a line break must"):
        parse("text,label\none\rtwo,a\n", KNOWN, "label")


def test_a_column_twice() -> None:
    with pytest.raises(NasError, match="has two columns 'text'"):
        parse("text,text,label\na,b,c\n", KNOWN, "label")


def test_an_empty_file() -> None:
    with pytest.raises(NasError, match="holds no header"):
        parse("\n\n", KNOWN, "label")
