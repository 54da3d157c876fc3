"""Distil a teacher into one student of fixed architecture on task data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from supernet.distill.augment import WordNeighbours
from supernet.distill.losses import hard_loss, hidden_loss, soft_loss
from supernet.errors import NasError, check_number
from supernet.model import Supernet
from supernet.training import Progress, ResumableTrainer, TrainingSettings

REFERENCE_WIDTH = 256


@dataclass(frozen=True)
class DistillSettings:
    """What a student learns from.

    Args:
        training: duration and optimizer. The learning rate is for a hidden size of 256; wider
            students take smaller steps, narrower ones larger, in proportion, as hidden matrices
            do under Adam in muP (Yang et al. 2022).
        temperature: softens predictions.
        soft_weight: of the teacher's predictions.
        hard_weight: of the labels (of texts as they stand, not of augmented ones).
        hidden_weight: of the teacher's hidden states, through one learned projection.
        augment_share: share of a batch's texts whose words are replaced by neighbours.
        augment_probability: with which a word of such a text is replaced.

    Raises:
        NasError: a value out of range.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    training: TrainingSettings = TrainingSettings(epochs=12, learning_rate=3.75e-4)
    temperature: float = 2.0
    soft_weight: float = 1.0
    hard_weight: float = 0.3
    hidden_weight: float = 1.0
    augment_share: float = 0.5
    augment_probability: float = 0.4

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, 1e-3)
        for name in ("soft_weight", "hard_weight", "hidden_weight"):
            check_number(name, getattr(self, name), 0)
        if not (self.soft_weight or self.hard_weight or self.hidden_weight):
            raise NasError("soft_weight, hard_weight and hidden_weight are all 0")
        for name in ("augment_share", "augment_probability"):
            check_number(name, getattr(self, name), 0, 1)


def layer_map(student_layers: int, teacher_layers: int) -> list[int]:
    """For student states 0 (embeddings) to M, the teacher's state g(m) = m N / M, rounded.

    (TinyBERT, Jiao et al. 2020, section 3; halves round to the even layer.)
    """
    return [round(m * teacher_layers / student_layers) for m in range(student_layers + 1)]


class _Projected(nn.Module):
    """A student and the projection of its states to the teacher's width, for its training alone."""

    def __init__(self, student: PreTrainedModel, teacher_width: int) -> None:
        super().__init__()
        self.student = student
        width = student.config.hidden_size
        self.projection = nn.Linear(width, teacher_width)
        with torch.no_grad():  # a student's units are the teacher's leading ones
            nn.init.eye_(self.projection.weight)
            nn.init.zeros_(self.projection.bias)

    def forward(self, **inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the projected states from the embeddings' to the last layer's."""
        output = self.student(**inputs, output_hidden_states=True)
        return output.logits, [self.projection(state) for state in output.hidden_states]


class DistillTrainer(ResumableTrainer):
    """Trains ``student`` in place.

    Args:
        teacher: a frozen supernet whose largest sub-network is the teacher, its units in the order
            of the supernet that the student was cut from.
        neighbours: for augmentation; None leaves the texts as they are.
        data, collate, folder, seed, progress: as in :class:`ResumableTrainer`.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: Supernet,
        data: Dataset[Any],
        collate: Callable[[list[Any]], dict[str, Tensor]],
        settings: DistillSettings,
        folder: Path,
        *,
        seed: int,
        neighbours: WordNeighbours | None = None,
        progress: Progress | None = None,
    ) -> None:
        torch.manual_seed(seed)
        rate = settings.training.learning_rate * REFERENCE_WIDTH / student.config.hidden_size
        super().__init__(
            _Projected(student, teacher.largest.hidden_size),
            data,
            collate,
            replace(settings.training, learning_rate=rate),
            folder,
            seed=seed,
            progress=progress,
        )
        self.teacher = teacher.eval().requires_grad_(False).to(self.args.device)
        self.distill_settings = settings
        self.neighbours = neighbours

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        settings = self.distill_settings
        labels = inputs.pop("labels", None)
        original = torch.ones(len(inputs["input_ids"]), dtype=torch.bool)
        if self.neighbours is not None and settings.augment_share:
            rng = self.step_rng()
            original = torch.from_numpy(rng.random(len(original)) >= settings.augment_share)
            inputs["input_ids"] = self.neighbours.replace(
                inputs["input_ids"], ~original, settings.augment_probability, rng
            )
        with torch.no_grad():
            teacher = self.teacher(**inputs)
        logits, states = model(**inputs)
        loss = settings.soft_weight * soft_loss(logits, teacher.logits, settings.temperature)
        if settings.hard_weight and labels is not None and original.any():
            rows = original.to(logits.device)
            loss = loss + settings.hard_weight * hard_loss(logits[rows], labels[rows])
        if settings.hidden_weight:
            mapped = layer_map(len(states) - 1, len(teacher.hidden_states) - 1)
            hidden = [
                hidden_loss(mine, teacher.hidden_states[index], inputs["attention_mask"])
                for mine, index in zip(states, mapped, strict=True)
            ]
            loss = loss + settings.hidden_weight * torch.stack(hidden).mean()
        return loss
