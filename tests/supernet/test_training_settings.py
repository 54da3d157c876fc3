"""Settings of trainings: what is accepted, and what is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from supernet.errors import NasError
from supernet.sandwich_settings import SandwichSettings
from supernet.training_settings import TrainingSettings


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, "either epochs or steps must be given"),
        ({"epochs": 1, "steps": 1}, "either epochs or steps must be given"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"steps": 2.5}, "steps"),
        ({"steps": 5, "batch_size": 0}, "batch_size"),
        ({"steps": 5, "batch_size": 8.5}, "batch_size"),
        ({"steps": 5, "learning_rate": -1e-9}, "learning_rate"),
        ({"steps": 5, "weight_decay": -0.1}, "weight_decay"),
        ({"steps": 5, "max_grad_norm": -0.1}, "max_grad_norm"),
        ({"steps": 5, "warmup": 1.01}, "warmup"),
        ({"steps": 5, "warmup": -0.01}, "warmup"),
        ({"steps": 5, "schedule": "step"}, "schedule must be one of linear"),
        ({"steps": 5, "precision": "int8"}, "precision must be one of"),
    ],
)
def test_a_training_that_makes_no_sense_is_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(NasError, match=named):
        TrainingSettings(**{"learning_rate": 1e-3, **changed})


def test_the_ends_of_every_range_are_accepted() -> None:
    for warmup in (0, 1):
        TrainingSettings(
            learning_rate=0, steps=1, batch_size=1, warmup=warmup, weight_decay=0, max_grad_norm=0
        )


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"num_random": -1}, "num_random"),
        ({"num_random": 1.5}, "num_random"),
        ({"temperature": 0.0}, "temperature"),
        ({"soft_weight": -0.1}, "soft_weight"),
        ({"hard_weight": -0.1}, "hard_weight"),
        ({"hidden_weight": -0.1}, "hidden_weight"),
        ({"relation_weight": -0.1}, "relation_weight"),
        ({"soft_weight": 0, "hard_weight": 0}, "relation_weight are all 0"),
    ],
)
def test_a_sandwich_that_makes_no_sense_is_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(NasError, match=named):
        SandwichSettings(**changed)


@pytest.mark.parametrize(
    "alone", ["soft_weight", "hard_weight", "hidden_weight", "relation_weight"]
)
def test_one_loss_is_enough(alone: str) -> None:
    weights = {"soft_weight": 0, "hard_weight": 0, alone: 0.1}
    assert SandwichSettings(num_random=0, **weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [TrainingSettings, SandwichSettings])
def test_unknown_keys_are_refused_in_files(settings: Any) -> None:
    read = TypeAdapter(settings).validate_python
    given = {"learning_rate": 1e-3, "steps": 1} if settings is TrainingSettings else {}
    assert isinstance(read(given), settings)
    with pytest.raises(ValidationError, match="colour"):
        read({**given, "colour": "red"})
