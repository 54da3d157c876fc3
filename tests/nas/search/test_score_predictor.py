"""The score predictor against closed forms and against held-out truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.search.score_predictor import ScorePredictor, features
from supernet.architecture import Architecture, Layer
from supernet.batch import ArchitectureBatch


def sample(count: int, seed: int) -> ArchitectureBatch:
    rng = np.random.default_rng(seed)
    return ArchitectureBatch.of(
        [
            Architecture.uniform(
                num_layers=int(rng.integers(1, 7)),
                hidden_size=int(rng.integers(4, 25)) * 16,
                num_heads=int(rng.integers(1, 5)),
                qkv_size=int(rng.integers(1, 7)) * 60,
                intermediate_size=int(rng.integers(2, 25)) * 64,
            )
            for _ in range(count)
        ]
    )


def truth(batch: ArchitectureBatch) -> np.ndarray:
    """A saturating score, as accuracies are."""
    depth, qkv = batch.num_layers, batch.qkv_size.max(1)
    return 0.95 - 8 / batch.hidden_size - 0.1 / depth - 4 / qkv - 8 / batch.intermediate_size.max(1)


def test_features_tell_where_in_depth_the_width_lies():
    narrow, wide = Layer(1, 32, 64), Layer(1, 64, 256)
    rising, falling, level = features(
        ArchitectureBatch.of(
            [
                Architecture(64, (narrow, wide)),
                Architecture(64, (wide, narrow)),
                Architecture(64, (wide, wide)),
            ]
        )
    )
    assert rising[:8] == pytest.approx(falling[:8])
    assert rising[7] == 0  # nothing is compressed
    assert (rising[8:] > 0).all()
    assert rising[8:] == pytest.approx(-falling[8:])
    assert level[8:] == pytest.approx([0, 0])


def test_a_feature_tells_how_much_smaller_the_weights_are():
    half = Architecture(64, (Layer(1, 64, 64, 2),))
    whole, compressed = features(ArchitectureBatch.of([half.whole, half]))
    assert compressed[7] == pytest.approx(1)
    assert compressed[5] == pytest.approx(whole[5] - 1)
    assert compressed[[0, 1, 2, 3, 4, 8, 9]] == pytest.approx(whole[[0, 1, 2, 3, 4, 8, 9]])


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_features_do_not_depend_on_the_batch(seed):
    batch = sample(6, seed)
    alone = [features(batch.take(np.array([row])))[0] for row in range(6)]
    assert features(batch) == pytest.approx(np.stack(alone))
    assert features(ArchitectureBatch.of(list(batch))) == pytest.approx(np.stack(alone))


def test_predictions_and_doubt_are_those_of_scikit_learn():
    known, asked = sample(30, 1), sample(50, 2)
    predictor = ScorePredictor().fit(known, truth(known))
    mean, deviation = predictor.predict(asked)

    process, points = predictor._process, predictor._scaled(features(asked))
    reference, with_noise = process.predict(points, return_std=True)
    variance = with_noise**2 - process.kernel_.k2.noise_level
    assert mean == pytest.approx(predictor._mean + predictor._unit * reference)
    assert deviation**2 == pytest.approx(predictor._unit**2 * variance, abs=1e-9)
    assert predictor.expect(asked) == pytest.approx(mean)


def test_the_process_sees_features_of_one_scale():
    """Bounds of length scales mean the same for each; features that never change are left out."""
    known = sample(30, 1)
    raw = features(known)
    points = ScorePredictor().fit(known, truth(known))._scaled(raw)
    assert points.shape == (30, (np.ptp(raw, axis=0) > 0).sum())
    assert points.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert points.std(axis=0) == pytest.approx(1)


def test_smoothing_brings_noisy_scores_closer_to_the_truth():
    known = sample(80, 3)
    noise = np.random.default_rng(0).normal(0, 0.02, 80)
    predictor = ScorePredictor().fit(known, truth(known) + noise)
    error = predictor.expect(known) - truth(known)
    assert np.sqrt(np.mean(error**2)) < 0.75 * np.sqrt(np.mean(noise**2))
    assert predictor.noise_ == pytest.approx(0.02, rel=0.4)


def test_unseen_architectures_are_ranked():
    known, unseen = sample(60, 4), sample(200, 5)
    noisy = truth(known) + np.random.default_rng(1).normal(0, 0.01, 60)
    expected = ScorePredictor().fit(known, noisy).expect(unseen)
    assert np.corrcoef(expected, truth(unseen))[0, 1] > 0.9


def test_doubt_grows_away_from_what_is_known():
    known = sample(40, 6)
    predictor = ScorePredictor().fit(known, truth(known))
    far = Architecture.uniform(
        num_layers=12, hidden_size=1024, num_heads=2, qkv_size=8, intermediate_size=4096
    )
    _, at_known = predictor.predict(known)
    _, at_far = predictor.predict(ArchitectureBatch.of([far]))
    assert at_far[0] > 3 * at_known.max()


def test_one_score_and_equal_scores_are_enough_to_fit():
    for known in (sample(1, 7), sample(5, 7)):
        mean, deviation = ScorePredictor().fit(known, np.full(len(known), 0.5)).predict(known)
        assert mean == pytest.approx(np.full(len(known), 0.5))
        assert np.isfinite(deviation).all()


def test_hyperparameters_are_taken_over():
    known, asked = sample(30, 8), sample(40, 9)
    tuned = ScorePredictor().fit(known, truth(known))
    again = ScorePredictor().fit(known, truth(known), like=tuned)
    for mine, theirs in zip(again.predict(asked), tuned.predict(asked), strict=True):
        assert mine == pytest.approx(theirs)
    more = sample(60, 10)
    assert ScorePredictor().fit(more, truth(more), like=tuned).noise_ == tuned.noise_


def test_the_joint_prediction_has_the_marginals():
    known, asked = sample(30, 8), sample(40, 9)
    predictor = ScorePredictor().fit(known, truth(known))
    mean, covariance = predictor.joint(asked)
    expected, deviation = predictor.predict(asked)
    assert mean == pytest.approx(expected)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(deviation, abs=1e-6)


def test_a_size_that_all_known_ones_share_leaves_others_predictable():
    """Equal logarithms may differ by rounding, which is no scale to measure others by."""
    known = ArchitectureBatch.of(
        [
            Architecture.uniform(
                num_layers=layers, hidden_size=312, num_heads=12, intermediate_size=size
            )
            for layers in (2, 3, 4, 6)
            for size in (600, 1200, 1536)
        ]
    )
    near = ArchitectureBatch.of(
        [
            Architecture.uniform(
                num_layers=3, hidden_size=size, num_heads=12, intermediate_size=1200
            )
            for size in (300, 324)
        ]
    )
    predictor = ScorePredictor().fit(known, truth(known))
    _, deviation = predictor.predict(near)
    assert (deviation < 0.5 * truth(known).std()).all()
