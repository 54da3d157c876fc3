"""What a finished model is scored on is all that was given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.data.held_out import load_held_out
from nas.data.task_data import load_data
from nas.tasks.classification import CLASSIFICATION
from nas.tasks.kinds import Head
from nas.tasks.regression import REGRESSION
from supernet.errors import NasError

CLASSES = ("no", "yes", "maybe")
HEAD = Head(CLASSIFICATION, CLASSES)


def write(path: Path, labels: list[object], count: int = 20) -> str:
    path.parent.mkdir(exist_ok=True, parents=True)
    rows = [{"text": f"text {n}", "label": labels[n % len(labels)]} for n in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_a_file_is_taken_whole_with_the_models_classes(tmp_path: Path) -> None:
    source = write(tmp_path / "new.jsonl", ["yes", "no"])
    found = load_held_out(source, "test", HEAD, seed=0)
    assert found.examples.text_a == tuple(f"text {n}" for n in range(20))
    assert found.examples.labels is not None
    assert found.examples.labels.tolist() == [1, 0] * 10
    assert found.task.label_names == CLASSES
    assert found.told == "all of new"


def test_one_class_alone_can_be_scored(tmp_path: Path) -> None:
    found = load_held_out(write(tmp_path / "new.jsonl", ["maybe"]), "test", HEAD, seed=0)
    assert found.examples.labels is not None
    assert set(found.examples.labels.tolist()) == {2}


@pytest.mark.parametrize(("name", "split"), [("test", "test"), ("test", "validation")])
def test_the_only_split_of_a_folder_is_taken(name: str, split: str, tmp_path: Path) -> None:
    write(tmp_path / f"{name}.jsonl", ["yes", "no"])
    found = load_held_out(str(tmp_path), split, HEAD, seed=0)
    assert len(found.examples) == 20
    assert found.told == f"all of test of {tmp_path.name}"


def test_of_two_splits_the_one_asked_for_is_taken(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", ["yes", "no"], 8)
    write(tmp_path / "dev.jsonl", ["yes", "no"], 6)
    assert len(load_held_out(str(tmp_path), "test", HEAD, seed=0).examples) == 8
    assert len(load_held_out(str(tmp_path), "validation", HEAD, seed=0).examples) == 6
    with pytest.raises(NasError, match="no train split; found"):
        load_held_out(str(tmp_path), "train", HEAD, seed=0)


def test_a_folder_with_training_data_is_split_as_a_search_does(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ["yes", "no"], 100)
    found = load_held_out(str(tmp_path), "test", HEAD, seed=3)
    data = load_data(str(tmp_path), seed=3)
    assert found.examples.text_a == data.test.text_a
    assert found.task == data.task


def test_whole_numbers_are_the_classes_they_name(tmp_path: Path) -> None:
    source = write(tmp_path / "new.jsonl", [2.0, 1.0])
    found = load_held_out(source, "test", Head(CLASSIFICATION, ("1", "2", "10")), seed=0)
    assert found.examples.labels is not None
    assert found.examples.labels.tolist() == [1, 0] * 10


def test_values_are_what_a_regressor_is_scored_on(tmp_path: Path) -> None:
    found = load_held_out(
        write(tmp_path / "new.jsonl", [1.0, 2.0]), "test", Head(REGRESSION, ()), seed=0
    )
    assert (found.task.kind, found.task.metric) == (REGRESSION, "pearson_spearman")


def test_classes_without_names_are_the_datas(tmp_path: Path) -> None:
    found = load_held_out(write(tmp_path / "new.jsonl", ["yes", "no"]), "test", None, seed=0)
    assert found.task.label_names == ("no", "yes")


@pytest.mark.parametrize(
    ("labels", "split", "complaint"),
    [
        (["yes", "nay"], "test", "label 'nay' in row 2 is none of the model's classes, no, yes,"),
        (["yes", None], "test", "'label' is empty in row 2 of train"),
        (["yes"], "dev", "split must be one of train, validation, test, not 'dev'"),
    ],
)
def test_faults_are_one_line(
    labels: list[object], split: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(NasError, match=complaint):
        load_held_out(write(tmp_path / "new.jsonl", labels), split, HEAD, seed=0)
