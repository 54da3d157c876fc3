"""Regression: values are read, shown and doubted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nas.tasks.kind import LabelColumn, ValueRange
from nas.tasks.regression import REGRESSION
from nas.tasks.units import Units
from supernet.errors import NasError


def column_of(**splits: list[object]) -> LabelColumn:
    return LabelColumn("data mine", {name: pd.Series(labels) for name, labels in splits.items()})


def test_values_are_read_as_they_are() -> None:
    names, labels = REGRESSION.read(column_of(train=[1, 3], test=[2.5]), None)
    assert names == ()
    assert [found.tolist() for found in labels.values()] == [[1.0, 3.0], [2.5]]
    assert {found.dtype for found in labels.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize(
    ("splits", "fault"),
    [
        ({"train": ["good", "bad"]}, "must be numeric for a regression, not 'good'"),
        ({"train": [1.0, 2.0], "test": [0.0, np.inf]}, "is infinite in row 2 of test"),
        ({"train": [2, 2]}, "is 2 in every row of train: nothing to learn"),
    ],
)
def test_labels_that_are_no_values_are_refused(splits: dict[str, list[object]], fault: str) -> None:
    with pytest.raises(NasError, match=f"^data mine {fault}"):
        REGRESSION.read(column_of(**splits), None)


def test_the_range_is_shown_and_the_units_are_the_trainings() -> None:
    labels = np.array([100.0, 300.0])
    assert REGRESSION.summary((), labels).values == ValueRange(100.0, 300.0, 200.0)
    assert REGRESSION.units(labels) == Units(200.0, 100.0)


def test_predictions_at_chance_are_doubted() -> None:
    labels = np.arange(4.0)
    logits = np.array([[0.0], [1.0], [1.0], [0.0]])
    assert REGRESSION.doubt((), logits, labels, False) is None
    told = REGRESSION.doubt((), logits, labels, True)
    assert told is not None
    assert told.startswith("its predictions and the data's values correlate by 0.00 on 4 examples")


def test_values_have_no_names() -> None:
    with pytest.raises(NasError, match="a regression has no label names, not"):
        REGRESSION.check_names(("one",))
