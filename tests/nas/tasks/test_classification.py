"""Classification: classes are read, shown and doubted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nas.tasks.classification import CLASSIFICATION
from nas.tasks.kind import ClassShare, LabelColumn
from supernet.errors import NasError


def column_of(**splits: list[object]) -> LabelColumn:
    return LabelColumn("data mine", {name: pd.Series(labels) for name, labels in splits.items()})


def test_train_defines_the_classes_in_order() -> None:
    names, labels = CLASSIFICATION.read(column_of(train=["b", "a", "b"], test=["a"]), None)
    assert names == ("a", "b")
    assert {split: found.tolist() for split, found in labels.items()} == {
        "train": [1, 0, 1],
        "test": [0],
    }


def test_a_head_may_have_more_classes_in_another_order() -> None:
    names, labels = CLASSIFICATION.read(column_of(test=[2.0, 1.0, 2.0]), ("10", "2", "1"))
    assert names == ("10", "2", "1")
    assert labels["test"].tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("splits", "fault"),
    [
        ({"train": [1.0, 2.5]}, "must hold classes for such a metric, not 2.5"),
        ({"train": ["a", "b"], "test": ["c"]}, "is 'c' in test, a class that train has not"),
        ({"train": [2.0, 2.0]}, "is 2.0 in every row of train: nothing to learn"),
    ],
)
def test_labels_that_are_no_classes_are_refused(
    splits: dict[str, list[object]], fault: str
) -> None:
    with pytest.raises(NasError, match=f"^data mine {fault}"):
        CLASSIFICATION.read(column_of(**splits), None)


def test_the_largest_classes_are_shown_first_and_long_names_cut() -> None:
    names = ("a" * 100, *(f"class {number}" for number in range(24)))
    labels = np.array([3] * 5 + list(range(25)))
    shown = CLASSIFICATION.summary(names, labels)
    assert (shown.num_classes, len(shown.classes), shown.values) == (25, 20, None)
    assert shown.classes[:2] == (
        ClassShare("class 2", 6 / 30),
        ClassShare("a" * 80 + "…", 1 / 30),
    )


def test_only_labels_whose_kind_is_open_may_be_misread_numbers() -> None:
    names = ("1", "2", "3")
    (line,) = CLASSIFICATION.misreadings(names, 100, "float", True)
    assert "some written with a fraction, 3 of them" in line
    assert CLASSIFICATION.misreadings(names, 100, "float", False) == []
    assert CLASSIFICATION.misreadings(names, 100, "integer", True) == []


def test_names_that_differ_by_case_or_blanks_are_told() -> None:
    (line,) = CLASSIFICATION.misreadings(("New York", "new  york", "Oslo"), 100, "text", False)
    assert line == "labels 'New York', 'new  york' differ by case or blanks alone"


@pytest.mark.parametrize("names", [(), ("one",)])
def test_a_classification_has_two_classes(names: tuple[str, ...]) -> None:
    with pytest.raises(NasError, match="a classification needs two classes, not"):
        CLASSIFICATION.check_names(names)
