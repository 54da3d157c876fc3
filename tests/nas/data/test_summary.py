"""What is told of data exposes a misreading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas.data.summary import ClassShare, DataSummary, ValueRange, doubts_of, summary_of, told_of
from nas.data.task_data import TaskData, load_data


def data_of(folder: Path, metric: str | None = None, **splits: list[dict[str, Any]]) -> TaskData:
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return load_data(str(folder), metric=metric, seed=0)


def rows(labels: list[Any], count: int = 60, prefix: str = "text") -> list[dict[str, Any]]:
    return [
        {"text": f"{prefix} {row}", "label": labels[row % len(labels)], "id": row}
        for row in range(count)
    ]


def test_sizes_columns_classes_and_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("a,b\n")
    data = data_of(tmp_path, train=rows(["a", "a", "b"]), test=rows(["a", "b"], 6, "test"))
    lines = told_of(data)
    assert lines[0].endswith("54 + 6 + 6 examples (train, validation, test), accuracy")
    assert lines[1] == "texts from text, labels from label: 2 classes, a 66.7%, b 33.3%"
    assert lines[2:] == ["columns not read: id", "files not read: notes.csv"]


def test_values_tell_their_range(tmp_path: Path) -> None:
    data = data_of(tmp_path, train=rows([1.5, 2.5]), test=rows([1.5, 2.5], 6, "test"))
    assert told_of(data)[1].endswith("values from 1.5 to 2.5, 2 on average")


def test_many_classes_are_cut_short(tmp_path: Path) -> None:
    data = data_of(tmp_path, train=rows([f"c{n:02}" for n in range(15)], 600))
    assert told_of(data)[1].endswith(" and 3 more")


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ([0, 1, 2], [0, 1], ""),  # as classes are numbered
        ([1, 2, 3, 4, 5], [1], ""),
        (["3", "17", "40"], ["3"], ""),
        ([0, 1], [0.0], ""),
        ([1.0, 2.0, 3.0], [1.0], "labels are whole numbers, some written with a fraction, 3 of"),
        (
            [1, 2, 3],
            [1.0],
            "labels are whole numbers, some written with a fraction, 3 of them, and",
        ),
        (list(range(0, 42, 2)), [2], "labels are whole numbers, 21 of them, and taken for classes"),
        ([f"{number}" for number in range(21)], ["2"], ""),
    ],
)
def test_whole_numbers_may_be_values(
    train: list[Any], test: list[Any], expected: str, tmp_path: Path
) -> None:
    """Where there are many of them, or one is written as a value is, and no metric tells."""
    splits = {"train": rows(train, 420), "test": rows(test, 6, "test")}
    found = doubts_of(data_of(tmp_path, **splits))
    assert [line[: len(expected)] for line in found] == ([expected] if expected else [])
    assert doubts_of(data_of(tmp_path, "accuracy", **splits)) == []


def test_a_summary_is_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("a,b\n")
    data = data_of(tmp_path, train=rows(["a", "a", "b "]), test=rows(["a", "b "], 6, "text"))
    assert summary_of(data, ["texts are cut"]) == DataSummary(
        splits={"train": 54, "validation": 6, "test": 6},
        text_columns=("text",),
        label_column="label",
        unread_columns=("id",),
        ignored_files=("notes.csv",),
        num_classes=2,
        classes=(ClassShare("a", 36 / 54), ClassShare("b ", 18 / 54)),
        warnings=("texts that stand in train as well: 6 of test", "texts are cut"),
    )


def test_a_summary_of_values_has_their_range(tmp_path: Path) -> None:
    found = summary_of(data_of(tmp_path, train=rows([1.5, 2.5]), test=rows([1.5], 6, "test")))
    assert found.values == ValueRange(1.5, 2.5, 2.0)
    assert (found.num_classes, found.classes) == (0, ())


def test_a_summary_names_the_twenty_largest_classes(tmp_path: Path) -> None:
    names = [f"{number:02}" + "x" * 200 for number in range(30)]
    found = summary_of(data_of(tmp_path, train=rows([*names, names[7]], 620)))
    assert (found.num_classes, len(found.classes)) == (30, 20)
    assert found.classes[0].name == names[7][:80] + "…"
    assert found.classes[0].share == max(one.share for one in found.classes)


def test_labels_that_differ_by_case_or_blanks(tmp_path: Path) -> None:
    found = doubts_of(data_of(tmp_path, train=rows(["Yes", "yes ", "no"])))
    assert found == ["labels 'Yes', 'yes ' differ by case or blanks alone"]


def test_texts_of_train_in_other_splits(tmp_path: Path) -> None:
    held_out = [*rows(["a", "b"], 4, "test"), *rows(["a", "b"], 3)]
    data = data_of(tmp_path, train=rows(["a", "b"]), test=held_out, dev=rows(["a"], 5))
    assert doubts_of(data) == ["texts that stand in train as well: 5 of validation, 3 of test"]


def test_classes_that_are_many(tmp_path: Path) -> None:
    data = data_of(tmp_path, train=rows([f"class {n}" for n in range(40)], 120))
    assert any("40 classes are many for" in line for line in told_of(data))


def test_empty_texts_are_counted(tmp_path: Path) -> None:
    some = rows(["a", "b"])
    some[3]["text"] = some[8]["text"] = " "
    (doubt,) = doubts_of(data_of(tmp_path, train=some, test=rows(["a"], 5, "test")))
    assert doubt.startswith("texts that are empty: ")
