"""Uploaded data sets: what is kept is the task that was sent; what is no data set is refused."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.data.task_data import load_data
from nas.service.uploads import scan
from nas.service.uploads.convert import convert_dataset
from supernet.errors import NasError

TEXTS = ["well made", "it broke, at once", "“très bien”", 'a "quoted" one', "two\nlines"] * 6
CLASSES = [number % 3 for number in range(len(TEXTS))]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def convert(filename: str, content: bytes | str) -> dict[str, Any]:
    Path(filename).write_bytes(content if isinstance(content, bytes) else content.encode())
    return convert_dataset(filename, "reviews", unpacked_bytes=10_000_000)


def content_of(table: pd.DataFrame, filename: str) -> bytes:
    sink = io.BytesIO()
    match Path(filename).suffix:
        case ".parquet":
            table.to_parquet(sink, index=False)
        case ".csv":
            table.to_csv(sink, index=False, quoting=csv.QUOTE_ALL)
        case ".jsonl":
            lines = (json.dumps(row) + "\n" for row in table.to_dict("records"))
            sink.write("".join(lines).encode())
    return sink.getvalue()


@pytest.mark.parametrize("filename", ["data.parquet", "data.csv", "data.jsonl"])
@pytest.mark.parametrize(
    "labels",
    [
        CLASSES,
        [f"class {one}" for one in CLASSES],
        [one / 7 for one in CLASSES],
        [bool(one) for one in CLASSES],
        [11 - one for one in CLASSES],
    ],
    ids=["numbers", "names", "values", "booleans", "two digits"],
)
def test_what_is_kept_is_the_task_that_was_sent(filename, labels):
    content = content_of(pd.DataFrame({"text": TEXTS, "label": labels, "id": TEXTS}), filename)
    about = convert(filename, content)
    sent, kept = load_data(filename, seed=3), load_data("kept/reviews", seed=3)
    assert kept.digest == sent.digest
    assert about["splits"] == {"train": len(TEXTS)}
    assert about["labels"]["kind"] == sent.task.kind.name
    assert about["labels"]["names"] == list(sent.task.label_names)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        min_size=20, max_size=30,
    ),
    suffix=st.sampled_from([".parquet", ".csv", ".jsonl"]),
)  # fmt: skip
def test_any_texts_are_kept_as_they_are(tmp_path_factory, monkeypatch, texts, suffix):
    monkeypatch.chdir(tmp_path_factory.mktemp("texts"))
    table = pd.DataFrame({"text": texts, "label": np.arange(len(texts)) % 2})
    filename = f"data{suffix}"
    convert(filename, content_of(table, filename))
    kept = pq.read_table("kept/reviews/train.parquet")
    if suffix == ".csv":  # which has no word for a carriage return within a text
        texts = pd.read_csv(filename, dtype=str, na_filter=False)["text"].tolist()
    assert kept["text"].to_pylist() == texts


def test_a_csv_column_of_numbers_may_be_the_label_whatever_its_name():
    content = "body,stars,text\n" + "".join(f"b{n},{n % 2}.5,{n}\n" for n in range(30))
    about = convert("data.csv", content)
    given_ = load_data("data.csv", label_column="stars", text_columns="body", seed=0)
    kept = load_data("kept/reviews", label_column="stars", text_columns="body", seed=0)
    assert kept.digest == given_.digest
    assert [column["kind"] for column in about["columns"]] == ["text", "number", "text"]


def test_what_is_in_it_is_told():
    long = "x" * 500
    about = convert("data.jsonl", "".join(
        json.dumps({"text": long, "label": n % 2, "score": 0.5, "seen": None}) + "\n"
        for n in range(20)
    ))  # fmt: skip
    assert about["columns"] == [
        {"name": "text", "kind": "text"},
        {"name": "label", "kind": "whole"},
        {"name": "score", "kind": "number"},
        {"name": "seen", "kind": "text"},
    ]
    example = {"text": f"{'x' * 200}…", "label": 0, "score": 0.5, "seen": None}
    assert about["example"] == example
    assert json.loads(json.dumps(about, allow_nan=False)) == about


def test_texts_need_no_labels():
    about = convert("data.csv", "text\n" + "some text\n" * 3)
    assert (about["labels"], about["splits"]) == (None, {"train": 3})


def test_values_of_test_need_not_be_among_those_of_train():
    """Whole numbers are values as well as classes: a search says which."""
    with zipfile.ZipFile("data.zip", "w") as zipped:
        zipped.writestr("train.csv", "text,label\n" + "".join(f"t,{n % 5}\n" for n in range(40)))
        zipped.writestr("test.csv", "text,label\nt,9\n")
    about = convert_dataset("data.zip", "reviews", unpacked_bytes=10_000)
    assert about["labels"] == {"kind": "regression", "classes": None, "names": []}


GOOD = "text,label\n" + "".join(f"t{n},{n % 2}\n" for n in range(30))
LINES = "".join(f'{{"text": "t{n}", "label": {n % 2}}}\n' for n in range(30))
REFUSED = {
    "empty": ("a.csv", "", "a.csv is empty"),
    "blank": ("a.csv", "\n\n", "no rows"),
    "header alone": ("a.csv", "text,label\n", "no rows"),
    "short row": ("a.csv", GOOD + "t\n", "line 32 has 1 cells, the header 2"),
    "long rows": ("a.csv", "text,label\n" + "a,b,1\n" * 30, "line 2 has 3 cells"),
    "open quote": ("a.csv", GOOD + '"t,1\n', "line 32: unexpected end"),
    "two of a name": ("a.csv", "text,text,label\n" + "a,b,1\n" * 9, "two columns 'text'"),
    "a hidden sign in a column": (
        "a.csv",
        GOOD.replace("label", "la\u200bbel"),
        r"a.csv: column name: 'la\\u200bbel' holds U\+200B",
    ),
    "a hidden sign in a class": (
        "a.csv",
        GOOD + "t,\u202e1\n",
        r"column 'label': class: '\\u202e1' holds U\+202E",
    ),
    "latin-1": ("a.csv", (GOOD + "é ,1\n").encode("latin-1"), "not UTF-8"),
    "UTF-16": ("a.csv", GOOD.encode("utf-16-le"), "NUL"),
    "NUL": ("a.csv", GOOD + "a\0b,1\n", "line 32 holds a NUL"),
    "infinite": ("a.csv", GOOD + "t,1e400\n", "infinite number"),
    "endless digits": ("a.csv", GOOD + f"t,{'1' * 5000}\n", "of 5000 characters"),
    "many columns": ("a.csv", ",".join(map(str, range(300))), "300 columns"),
    "large cell": ("a.csv", GOOD + "x" * 1_000_001 + ",1\n", "field larger than"),
    "JSON as CSV": ("a.csv", LINES, "name it .jsonl"),
    "CSV as JSON": ("a.jsonl", GOOD, "line 1: not JSON"),
    "CSV as Parquet": ("a.parquet", GOOD, "no whole Parquet file"),
    "CSV as zip": ("a.zip", GOOD, "no zip archive"),
    "NaN": ("a.jsonl", LINES + '{"text": "a", "label": NaN}', "line 31: NaN is no number"),
    "1e400": ("a.jsonl", LINES + '{"text": "a", "label": 1e400}', "too large"),
    "10**5000": ("a.jsonl", LINES + f'{{"text": "a", "label": 1{"0" * 5000}}}', "too large"),
    "half a pair": ("a.jsonl", LINES + '{"text": "\\ud800", "label": 1}', "surrogate"),
    "NUL escape": ("a.jsonl", LINES + '{"text": "\\u0000", "label": 1}', "NUL"),
    "list": ("a.jsonl", LINES + '{"text": ["a"], "label": 1}', "'text' holds a list"),
    "deep": ("a.jsonl", LINES + "[" * 100_000, "nested too deeply"),
    "no object": ("a.jsonl", LINES + "[1]", "must be an object"),
    "key twice": ("a.jsonl", '{"text": "a", "text": "b"}', "stands twice"),
    "mixed": ("a.jsonl", LINES + '{"text": 7, "label": 1}', "'text' of train must hold"),
    "no label": ("a.jsonl", LINES + '{"text": "a", "label": null}', "is empty in row 31"),
    "one class": ("a.csv", "text,label\n" + "t,1\n" * 30, "nothing to learn"),
    "no text": ("a.csv", "x,label\n" + "1,2\n" * 30, "no text column"),
    "too few": ("a.csv", "text,label\na,0\nb,1\n", "too few"),
}


@pytest.mark.parametrize(("filename", "content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_data_set_is_refused(filename, content, message):
    with pytest.raises(NasError, match=message) as refused:
        convert(filename, content)
    assert "\n" not in str(refused.value)


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


TABLE = pa.table({"text": [f"text {n}" for n in range(400)], "label": [n % 2 for n in range(400)]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([[1]] * 400), "is of type list"),
        (pa.array([b"\xff"] * 400), "is of type binary"),
        (pa.array([1] * 400, pa.timestamp("s")), "is of type timestamp"),
        (pa.array([b"\xff"] * 400).view(pa.string()), "cannot be read|UTF8|UTF-8"),
        (pa.array(["x" * 1_100_000] + ["y"] * 399), None),
        (pa.array(["x" * 4_100_000] + ["y"] * 399), "has 4,100,000 bytes"),
        (pa.array([float("inf")] * 400), "infinite"),
    ],
)
def test_columns_of_parquet_are_checked(values, message):
    content = parquet(TABLE.append_column("other", values))
    if message is None:
        assert convert("a.parquet", content)["splits"] == {"train": 400}
        return
    with pytest.raises((NasError, pa.ArrowInvalid), match=message):
        convert("a.parquet", content)


def test_a_flipped_bit_is_seen_where_pages_have_checksums():
    content = bytearray(parquet(TABLE, write_page_checksum=True, compression="none"))
    content[content.index(b"text 7") + 5] ^= 1
    with pytest.raises((NasError, OSError), match=r"(?i)crc|checksum"):
        convert("a.parquet", bytes(content))


def test_a_text_that_is_repeated_by_the_million_is_bounded_before_it_is_written_out():
    """A file of some kilobytes may state gigabytes."""
    long = pa.array(["x" * 100_000]).dictionary_encode().take(pa.array([0] * 200_000))
    numbers = pa.array(np.arange(200_000) % 2)
    content = parquet(pa.table({"text": long, "label": numbers}))
    assert len(content) < 200_000
    with pytest.raises(NasError, match="holds more than 10,000,000 bytes of text"):
        convert("a.parquet", content)


def test_rows_are_limited(monkeypatch):
    monkeypatch.setattr(scan, "ROWS", 399)
    with pytest.raises(NasError, match="more than 399 rows"):
        convert("a.parquet", parquet(TABLE))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_parquet_cut_anywhere_is_refused(tmp_path_factory, monkeypatch, data):
    monkeypatch.chdir(tmp_path_factory.mktemp("cut"))
    content = parquet(TABLE)
    with pytest.raises(NasError, match=r"no whole Parquet file|is empty"):
        convert("a.parquet", content[: data.draw(st.integers(0, len(content) - 1))])
