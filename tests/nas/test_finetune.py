"""Fine-tuning until validation no longer improves."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.finetune_settings import FinetuneSettings
from nas.learning import prepare_teacher, read_data, read_score
from supernet.errors import NasError
from tests.nas.learnt import RECIPE, study_in


def score_of(folder: Path, **changes: object) -> float:
    study = study_in(folder, finetune=RECIPE["finetune"] | changes)
    data = read_data(study)
    return read_score(prepare_teacher(study, data), data.task, "validation")


def test_more_epochs_are_taken_as_long_as_they_help(tmp_path: Path) -> None:
    """A bound of one epoch leaves this teacher where its first epochs did."""
    short = score_of(tmp_path, epochs=1)
    long = score_of(tmp_path, epochs=30, patience=6)
    assert long > short
    assert long > 0.9


def test_what_training_would_spoil_is_kept(tmp_path: Path) -> None:
    """A learning rate that ruins the teacher leaves it with the weights it began with."""
    ruined = score_of(tmp_path, learning_rate=3.0, epochs=2)
    untrained = score_of(tmp_path, learning_rate=0.0, epochs=1)
    assert ruined >= untrained


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"patience": 0}, "patience"),
        ({"warmup": 1.5}, "warmup"),
        ({"minutes": 0.0}, "minutes"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(NasError, match=message):
        FinetuneSettings(**changes)
