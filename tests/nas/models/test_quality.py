"""Quality: half the metric against labels, half against the teacher."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from nas.models.quality import agreement, quality


def test_of_classes_it_is_the_mean_of_accuracy_and_agreement() -> None:
    logits = np.eye(3)[[0, 1, 2, 2]]
    teacher = np.eye(3)[[0, 1, 1, 2]]
    labels = np.array([0, 0, 2, 1])
    assert quality("accuracy", logits, teacher, labels) == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert agreement("accuracy", logits, teacher) == pytest.approx(3 / 4)
    assert agreement("matthews", teacher, teacher) == 1


def test_of_values_it_is_the_mean_of_two_correlations() -> None:
    rng = np.random.default_rng(0)
    student, teacher, labels = rng.normal(size=(3, 40))

    def correlation(one: np.ndarray, other: np.ndarray) -> float:
        return (pearsonr(one, other).statistic + spearmanr(one, other).statistic) / 2

    found = quality("pearson_spearman", student[:, None], teacher[:, None], labels)
    expected = (correlation(student, labels) + correlation(student, teacher)) / 2
    assert found == pytest.approx(expected)
