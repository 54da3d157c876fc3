"""A score is held against what a constant answer scores, and against chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.tasks.chance import Standing, baseline, doubts, standing, teacher_doubt
from nas.tasks.classification import CLASSIFICATION
from nas.tasks.kind import Labels
from nas.tasks.metrics import compute
from nas.tasks.regression import REGRESSION
from nas.tasks.task import Task


def task_of(classes: int, metric: str = "accuracy") -> Task:
    return Task("many", CLASSIFICATION, tuple(f"class{n}" for n in range(classes)), metric)


VALUES = Task("stars", REGRESSION, (), "pearson_spearman")


def standing_of(task: Task, labels: Labels, predicted: Labels, split: str = "test") -> Standing:
    scores = {
        metric: compute(
            metric,
            predicted if task.kind == REGRESSION else np.eye(task.num_labels)[predicted],
            labels,
        )
        for metric in task.kind.metric_names
    }
    return standing(task, labels, split, scores)


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    metric=st.sampled_from(CLASSIFICATION.metric_names),
)
def test_the_baseline_is_the_best_of_all_constant_answers(counts: list[int], metric: str) -> None:
    classes, labels = len(counts), np.repeat(np.arange(len(counts)), counts)
    constants = [
        compute(metric, np.eye(classes)[np.full(len(labels), answer)], labels)
        for answer in range(classes)
    ]
    assert baseline(task_of(classes, metric), labels) == max(constants)


@pytest.mark.slow
@settings(max_examples=12)
@given(
    shares=st.lists(st.floats(0.05, 1.0), min_size=2, max_size=8),
    guesses=st.lists(st.floats(0.05, 1.0), min_size=8, max_size=8),
    seed=st.integers(0, 2**32 - 1),
)
def test_correlations_of_ignorant_answers_stay_within_the_error(
    shares: list[float], guesses: list[float], seed: int
) -> None:
    """Whatever the classes' shares, and however often each is guessed."""
    rng, classes = np.random.default_rng(seed), len(shares)
    labels = rng.choice(classes, 200, p=np.array(shares) / sum(shares))
    labels[:2] = 0, 1
    some = np.array(guesses[:classes]) / sum(guesses[:classes])
    found = [compute("matthews", rng.choice(classes, 200, p=some), labels) for _ in range(120)]
    assert np.std(found) <= 1.25 * CLASSIFICATION.correlation_error(labels)


def test_the_error_shrinks_with_examples_and_with_classes() -> None:
    """Of K equal classes by √(K - 1), for which a guess is right more seldom."""
    for classes in (2, 3, 10):
        labels = np.arange(300) % classes
        expected = 1 / np.sqrt(299 * (classes - 1))
        assert CLASSIFICATION.correlation_error(labels) == pytest.approx(expected)
    assert REGRESSION.correlation_error(np.arange(101.0)) == pytest.approx(0.1)


def test_answers_that_are_one_or_unrelated_are_told_beside_the_baseline() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    for predicted in (np.zeros(100, int), rng.permutation(labels)):
        found = standing_of(task_of(3), labels, predicted)
        assert found.above is False
        assert "on 100 examples of test cannot be told from chance" in found.told
        assert found.told.endswith("always answering 'class0' scores 50.0%")


def test_what_has_been_learnt_is_let_pass() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    predicted = np.where(np.arange(100) % 3 == 0, 0, labels)
    assert standing_of(task_of(3), labels, predicted) == Standing(True)
    assert standing_of(task_of(3), labels, labels) == Standing(True)


def test_accuracy_hides_what_a_detector_of_a_rare_class_has_learnt() -> None:
    """It finds half of them, at an accuracy below that of never naming the class."""
    labels = np.array([0] * 950 + [1] * 50)
    predicted = np.array([0] * 880 + [1] * 70 + [0] * 25 + [1] * 25)
    found = standing_of(task_of(2), labels, predicted)
    assert found.above is False
    assert "is no more than always answering 'class0' scores, 95.0%" in found.told
    assert "--metric matthews" in str(teacher_doubt(found))
    assert standing_of(task_of(2, "matthews"), labels, predicted).above


def test_always_naming_the_second_class_has_an_f1_that_needs_no_model() -> None:
    labels = np.array([0] * 40 + [1] * 60)
    found = standing_of(task_of(2, "f1"), labels, np.ones(100, int))
    assert found.above is False
    assert found.told.startswith("f1 of 75.0% ")
    assert found.told.endswith("always answering 'class1' scores 75.0%")


def test_values_are_held_against_a_correlation_of_none() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=200)
    assert standing_of(VALUES, labels, labels + rng.normal(size=200)).above
    found = standing_of(VALUES, labels, rng.normal(size=200))
    assert found.above is False
    assert found.told.endswith("a constant scores 0.000")


def test_validation_which_chose_the_weights_has_to_say_more_than_the_test() -> None:
    labels = np.arange(100) % 2
    predicted = labels.copy()
    predicted[:38] = 1 - predicted[:38]  # a correlation of 0.24, of 0.10 by chance
    assert standing_of(task_of(2), labels, predicted, "test").above
    assert standing_of(task_of(2), labels, predicted, "validation").above is False


def test_examples_of_one_label_tell_nothing() -> None:
    found = standing_of(task_of(2), np.zeros(20, int), np.zeros(20, int))
    assert found == Standing(None)
    assert teacher_doubt(found) is None
    assert standing_of(VALUES, np.ones(20), np.arange(20.0)) == Standing(None)


def test_perfect_answers_to_a_few_examples_are_let_pass() -> None:
    assert standing_of(task_of(2), np.array([0, 1, 0]), np.array([0, 1, 0])).above


def test_long_names_of_classes_are_cut() -> None:
    task = Task("long", CLASSIFICATION, ("a" * 500, "b"), "accuracy")
    found = standing_of(task, np.array([0] * 30 + [1] * 10), np.zeros(40, int))
    assert f"'{'a' * 40}…'" in found.told


def test_a_teacher_is_to_be_mended_before_its_student() -> None:
    chance, sound = Standing(False, "accuracy is at chance"), Standing(True)
    assert doubts(sound, sound) == doubts(Standing(None), Standing(None)) == ()
    (of_model,) = doubts(chance, sound)
    assert of_model.startswith("the model's accuracy is at chance; train it longer")
    of_teacher, of_model = doubts(chance, chance)
    assert of_teacher.startswith("the teacher's accuracy is at chance; train it longer (epochs")
    assert of_model == "the model's accuracy is at chance; mend its teacher first"


def test_a_score_that_a_constant_answer_has_too_is_not_above_it() -> None:
    """60% are of one class, and as many answers are right that go with the labels a little."""
    labels = np.repeat([0, 0, 1, 1], [1000, 200, 600, 200])
    predicted = np.repeat([0, 1, 0, 1], [1000, 200, 600, 200])
    task = task_of(2)
    assert baseline(task, labels) == (predicted == labels).mean() == 0.6
    found = standing_of(task, labels, predicted)
    assert found.above is False
    assert "is no more than" in found.told
    predicted[0], predicted[1200] = 0, 1  # one more is right
    assert standing_of(task, labels, predicted).above is True
