"""Scores against formulas written out in NumPy float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from nas.tasks.kinds import METRICS
from nas.tasks.metrics import compute
from supernet.errors import NasError


def confusion(predicted, labels, classes):
    table = np.zeros((classes, classes))
    np.add.at(table, (labels, predicted), 1.0)
    return table


def f1_by_formula(predicted, labels):
    classes = max(predicted.max(), labels.max()) + 1
    table = confusion(predicted, labels, classes)
    sizes = table.sum(axis=0) + table.sum(axis=1)
    each = 2 * np.diag(table) / np.maximum(sizes, 1)
    if classes <= 2:
        return each[1] if classes == 2 else 0.0
    return each[sizes > 0].mean()


def matthews_by_formula(predicted, labels):
    """Gorodkin's multi-class form."""
    table = confusion(predicted, labels, max(predicted.max(), labels.max()) + 1)
    total, correct = table.sum(), np.trace(table)
    true, guessed = table.sum(axis=1), table.sum(axis=0)
    spread = (total**2 - guessed @ guessed) * (total**2 - true @ true)
    return (correct * total - true @ guessed) / np.sqrt(spread) if spread else 0.0


def ranks(values):
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / np.sqrt((a @ a) * (b @ b))


@st.composite
def class_predictions(draw):
    classes = draw(st.integers(2, 5))
    indices = st.integers(0, classes - 1)
    pairs = draw(st.lists(st.tuples(indices, indices), min_size=1, max_size=40))
    return np.array(pairs).T


@given(class_predictions())
def test_classification_equals_formulas(pair):
    predicted, labels = pair
    assert_allclose(compute("accuracy", predicted, labels), np.mean(predicted == labels))
    assert_allclose(compute("f1", predicted, labels), f1_by_formula(predicted, labels))
    assert_allclose(
        compute("matthews", predicted, labels), matthews_by_formula(predicted, labels), atol=1e-12
    )


@given(st.integers(0, 2**32 - 1))
def test_regression_equals_formula(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, 30).astype(float)  # ties, as in STS-B
    predicted = labels + rng.normal(size=30)
    expected = (correlation(predicted, labels) + correlation(ranks(predicted), ranks(labels))) / 2
    assert_allclose(compute("pearson_spearman", predicted, labels), expected)
    column = predicted.reshape(-1, 1)
    assert compute("pearson_spearman", column, labels) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
def test_logits_score_as_their_largest_class(metric):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    assert compute(metric, logits, labels) == compute(metric, logits.argmax(1), labels)


def test_f1_of_two_classes_is_the_second_ones():
    assert compute("f1", [0, 1, 1, 0], [0, 1, 0, 1]) == pytest.approx(0.5)
    assert compute("f1", [0, 0, 0, 1], [0, 0, 0, 0]) == 0.0


def test_f1_of_a_head_of_three_is_the_mean_over_the_classes_that_occur():
    logits = np.eye(3)[[1, 1, 1, 0]]
    assert compute("f1", logits, [0, 1, 1, 0]) == pytest.approx((2 / 3 + 4 / 5) / 2)


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_predictions_score_one(metric):
    labels = np.array([0, 1, 1, 0, 1])
    assert compute(metric, labels, labels) == pytest.approx(1.0)


def test_constant_prediction_has_no_correlation():
    assert compute("pearson_spearman", [2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) == 0.0


@pytest.mark.parametrize(
    ("metric", "predictions", "labels", "message"),
    [
        ("bleu", [0], [0], "metric 'bleu' is unknown; accepted: accuracy"),
        ("accuracy", [], [], "labels must be"),
        ("accuracy", [0, 1], [0], "2 predictions for 1 labels"),
        ("accuracy", [[0.0]], [0], r"predictions of shape \(1, 1\)"),
        ("accuracy", [[np.nan, 0.0]], [0], "predictions hold NaN"),
        ("pearson_spearman", [[0.0, 1.0]], [0.0], r"predictions of shape \(1, 2\)"),
        ("pearson_spearman", [0.0, 1.0], [0.0, np.inf], "labels hold NaN or infinity"),
    ],
)
def test_bad_input_is_named(metric, predictions, labels, message):
    with pytest.raises(NasError, match=message):
        compute(metric, predictions, labels)
