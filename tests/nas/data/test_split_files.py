"""Folders as people and libraries lay them out: which files are which split."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.data.split_files import split_files
from supernet.errors import NasError

HASH = "-0123456789abcdef"


def laid_out(folder: Path, names: list[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return folder


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.csv", "eval.csv", "testing.csv"], {"train": 1, "validation": 1, "test": 1}),
        (["TRAIN.CSV", "Dev.tsv", "test.JSONL.GZ"], {"train": 1, "validation": 1, "test": 1}),
        (
            [f"train-0000{n}-of-00002{HASH}.parquet" for n in (0, 1)]
            + [f"test-00000-of-00001{HASH}.parquet"],
            {"train": 2, "test": 1},
        ),
        (["train/0000.parquet", "train/0001.parquet", "validation/0000.parquet"],
         {"train": 2, "validation": 1}),
        (["default/train/0000.parquet", "default/test/0000.parquet"], {"train": 1, "test": 1}),
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "README.md"],
         {"train": 1, "test": 1}),
        (["train/data-00000-of-00002.arrow", "train/data-00001-of-00002.arrow",
          "train/state.json", "train/dataset_info.json", "test/data-00000-of-00001.arrow",
          "dataset_dict.json"], {"train": 2, "test": 1}),
        (["data-00000-of-00002.arrow", "data-00001-of-00002.arrow", "state.json",
          "dataset_info.json"], {"train": 2}),
        (["reviews.csv"], {"train": 1}),
        (["all.json", ".hidden.csv", "__MACOSX/all.json"], {"train": 1}),
        (["train.csv", "unlabeled.csv"], {"train": 1, "unlabelled": 1}),
    ],
)  # fmt: skip
def test_layouts(names: list[str], splits: dict[str, int], tmp_path: Path) -> None:
    found = split_files(laid_out(tmp_path, names))
    assert {name: len(paths) for name, paths in found.splits.items()} == splits
    assert found.ignored == []


def test_what_is_of_no_split_is_told(tmp_path: Path) -> None:
    laid_out(tmp_path, ["train.csv", "test.csv", "notes.csv", "old/more.jsonl", "plot.png"])
    found = split_files(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found.ignored] == [
        "notes.csv", "old/more.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["train.csv", "training.csv"], "train.csv and training.csv are both train; keep one"),
        (["train.csv", "train.parquet"], "train.csv and train.parquet are both train"),
        (["train.csv", "train-00000-of-00001.csv"], "are both train"),
        (["a/train.csv", "b/train.csv"], "a/train.csv and b/train.csv are both train"),
        (["a/train/0.csv", "b/train/0.csv"], "a/train/0.csv and b/train/0.csv are both train"),
        (["train/0.csv", "train/1.jsonl"], "are both train; keep one"),
        (["all.csv", "test.csv"], "a file named all excludes others"),
        (["one.csv", "two.csv"], "needs files named train, validation, test or all"),
        ([], "found nothing"),
    ],
)
def test_what_is_in_doubt_is_refused(names: list[str], complaint: str, tmp_path: Path) -> None:
    laid_out(tmp_path, names)
    with pytest.raises(NasError, match=complaint):
        split_files(tmp_path)
