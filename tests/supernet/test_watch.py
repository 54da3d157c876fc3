"""Trainings that end with the weights that scored best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertForSequenceClassification

from supernet.training import BEST, Best, ResumableTrainer, Watch
from supernet.training_settings import TrainingSettings
from tests.supernet.parity import Rows, collate


class StoppedError(Exception):
    """As a kill, after which another process goes on."""


def trained(
    bert: BertForSequenceClassification,
    folder: Path,
    scores: list[float],
    *,
    stop_at: int | None = None,
    **watch: Any,
) -> tuple[list[int], dict[int, dict[str, torch.Tensor]]]:
    """Train with given scores, by the step at which they are asked for.

    Returns:
        The steps that were scored, and the weights at each.
    """
    asked: list[int] = []
    weights: dict[int, dict[str, torch.Tensor]] = {}

    def score() -> float:
        step = trainer.state.global_step
        assert not bert.training
        asked.append(step)
        weights[step] = {name: value.clone() for name, value in bert.state_dict().items()}
        return scores[step // 2]

    def progress(step: int, _steps: int) -> None:
        if step == stop_at:
            raise StoppedError

    settings = TrainingSettings(steps=10, learning_rate=1e-3, batch_size=8)
    trainer = ResumableTrainer(
        bert, Rows(24), collate, settings, folder, seed=0, progress=progress,
        watch=Watch(score, 2, **watch), checkpoint_every=0.0,
    )  # fmt: skip
    if stop_at is None:
        trainer.run()
    else:
        with pytest.raises(StoppedError):
            trainer.run()
    return asked, weights


def test_it_ends_with_the_best_weights(bert: BertForSequenceClassification, tmp_path: Path) -> None:
    asked, weights = trained(bert, tmp_path, [0.1, 0.3, 0.7, 0.5, 0.7, 0.6])
    assert asked == [0, 2, 4, 6, 8, 10]
    assert Best.read(tmp_path / BEST) == Best(4, 0.7, 4, 0.7)  # of two alike, the first
    assert all(torch.equal(value, weights[4][n]) for n, value in bert.state_dict().items())


def test_a_training_that_only_loses_leaves_the_weights_as_they_were(
    bert: BertForSequenceClassification, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in bert.state_dict().items()}
    trained(bert, tmp_path, [0.9, 0.3, 0.7, 0.5, 0.7, 0.6])
    assert all(torch.equal(value, before[name]) for name, value in bert.state_dict().items())


@pytest.mark.parametrize(("first", "ends_with"), [(0.8, 0), (0.6, 4)])
def test_a_first_score_that_is_known_is_not_found_again(
    bert: BertForSequenceClassification, tmp_path: Path, first: float, ends_with: int
) -> None:
    before = {name: value.clone() for name, value in bert.state_dict().items()}
    asked, weights = trained(bert, tmp_path, [0.1, 0.3, 0.7, 0.5, 0.7, 0.6], first=first)
    assert asked == [2, 4, 6, 8, 10]
    assert Best.read(tmp_path / BEST) == Best(
        ends_with, max(first, 0.7), ends_with, max(first, 0.7)
    )
    kept = weights | {0: before}
    assert all(torch.equal(value, kept[ends_with][n]) for n, value in bert.state_dict().items())


def test_patience_ends_it(bert: BertForSequenceClassification, tmp_path: Path) -> None:
    asked, _ = trained(bert, tmp_path, [0.1, 0.3, 0.2, 0.3, 0.9, 0.9], patience=2)
    assert asked == [0, 2, 4, 6]


def test_small_gains_do_not_put_off_its_end(
    bert: BertForSequenceClassification, tmp_path: Path
) -> None:
    """They are kept, and also after a kill the steps are counted from the last that was large."""
    scores = [0.0, 0.5, 0.55, 0.6, 0.9, 0.9]
    watch = {"patience": 2, "least_gain": 0.25}
    trained(bert, tmp_path, scores, stop_at=5, **watch)
    trained(bert, tmp_path, scores, **watch)
    assert Best.read(tmp_path / BEST) == Best(6, 0.6, 2, 0.5)


def test_small_gains_add_up(bert: BertForSequenceClassification, tmp_path: Path) -> None:
    scores = [0.0, 0.2, 0.4, 0.6, 0.8, 0.9]
    asked, _ = trained(bert, tmp_path, scores, patience=2, least_gain=0.3)
    assert asked == [0, 2, 4, 6, 8, 10]
    assert Best.read(tmp_path / BEST) == Best(10, 0.9, 8, 0.8)


def test_killed_and_gone_on_with_it_ends_the_same(
    bert: BertForSequenceClassification, tmp_path: Path
) -> None:
    """Also where the best stands already that only the steps to be repeated come to."""
    start = {name: value.clone() for name, value in bert.state_dict().items()}
    scores = [0.1, 0.3, 0.7, 0.5, 0.8, 0.6]
    trained(bert, tmp_path / "undisturbed", scores)
    expected = {name: value.clone() for name, value in bert.state_dict().items()}
    bert.load_state_dict(start)
    trained(bert, tmp_path / "killed", scores, stop_at=9)
    bert.load_state_dict(start)
    trained(bert, tmp_path / "killed", scores)
    assert Best.read(tmp_path / "killed" / BEST) == Best(8, 0.8, 8, 0.8)
    assert all(torch.equal(value, expected[n]) for n, value in bert.state_dict().items())


def test_the_forward_is_the_models_own_afterwards(
    bert: BertForSequenceClassification, tmp_path: Path
) -> None:
    """Whatever the training computed in, what is scored and exported computes in float32."""
    trained(bert, tmp_path, [0.1, 0.3, 0.2, 0.3, 0.9, 0.9])
    batch = collate([Rows(24)[row] for row in range(8)])
    batch.pop("labels")
    fresh = BertForSequenceClassification(bert.config).eval()
    fresh.load_state_dict(bert.state_dict())
    bert.eval()
    torch.testing.assert_close(bert(**batch).logits, fresh(**batch).logits, atol=1e-6, rtol=1e-6)
