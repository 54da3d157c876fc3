"""Gaussian processes against their formulas, written out."""

import numpy as np
import pytest

from latency.gaussian import Conditioned, matern, most_probable_scales


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_covariance_is_materns(rng):
    first, second = rng.random((4, 3)), rng.random((5, 3))
    found = matern(first, second)
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            r = np.sqrt(5) * np.linalg.norm(one - other)
            assert found[row, column] == pytest.approx((1 + r + r**2 / 3) * np.exp(-r), rel=1e-12)
    assert np.diag(matern(first, first)) == pytest.approx(np.ones(4), rel=1e-12)


def test_conditioning_is_that_of_the_joint_distribution(rng):
    points, new, others = rng.random((6, 2)), rng.random((3, 2)), rng.random((2, 2))
    covariance = matern(points, points) + 0.1 * np.eye(6)
    values = rng.standard_normal(6)
    given = Conditioned.on(covariance, values)
    cross, to_others = matern(new, points), matern(others, points)
    assert cross @ given.weights == pytest.approx(cross @ np.linalg.solve(covariance, values))
    expected = matern(new, others) - cross @ np.linalg.solve(covariance, to_others.T)
    assert given.covariance(matern(new, others), cross, to_others) == pytest.approx(expected)
    own = matern(new, new) - cross @ np.linalg.solve(covariance, cross.T)
    assert given.variance(np.ones(3), cross) == pytest.approx(np.diag(own))


def test_each_value_is_left_out_in_turn(rng):
    covariance = matern(*[rng.random((6, 2))] * 2) + 0.1 * np.eye(6)
    values = rng.standard_normal(6)
    residuals, deviations = Conditioned.on(covariance, values).left_out()
    for row in range(6):
        rest = np.arange(6) != row
        weights = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, row])
        assert residuals[row] == pytest.approx(values[row] - weights @ values[rest])
        variance = covariance[row, row] - weights @ covariance[rest, row]
        assert deviations[row] == pytest.approx(np.sqrt(variance))


def test_scales_are_those_that_made_the_values(rng):
    """With many values the prior about the start, e times off, hardly counts."""
    points = 10 * rng.random((300, 1))
    parts = [matern(points, points), np.eye(300)]
    true = np.array([2.0, 0.3])
    made = sum(scale**2 * part for scale, part in zip(true, parts, strict=True))
    values = np.linalg.cholesky(made) @ rng.standard_normal(300)
    start = np.log(true) + np.array([1.0, -1.0])
    found = most_probable_scales(parts, np.zeros((300, 300)), values, start, (-8.0, 2.0))
    assert np.exp(found) == pytest.approx(true, rel=0.4)


def test_scales_keep_to_their_bounds(rng):
    found = most_probable_scales(
        [np.eye(20)], np.zeros((20, 20)), 1e3 * rng.standard_normal(20), np.zeros(1), (-1.0, 0.5)
    )
    assert found == pytest.approx([0.5])
