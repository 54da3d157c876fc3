"""Recipes: how much work goes into each stage, as YAML that a user edits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nas.models.finetune_settings import FinetuneSettings
from nas.search.settings import SearchSettings
from supernet.configs import read_config
from supernet.distill.augmentation import Augmentation
from supernet.distill.stage import DistillStage, Losses
from supernet.errors import NasError, shown
from supernet.sandwich_settings import SandwichSettings
from supernet.training_settings import TrainingSettings

Scores = Literal["inherited", "repaired", "fitted"]


class General(BaseModel):
    """Task-agnostic distillation of the supernet before the task.

    Args:
        texts: unlabelled texts, as ``--data`` names data: ``pydoc``, a folder, a file, a hub name.
        limit: at most this many texts.
        settings: of the training; relations are the only loss that needs no labels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: str = "pydoc"
    limit: int | None = Field(default=None, ge=1)
    settings: SandwichSettings

    @field_validator("settings")
    @classmethod
    def _needs_no_labels(cls, settings: SandwichSettings) -> SandwichSettings:
        if not (settings.soft_weight or settings.hidden_weight or settings.relation_weight):
            raise ValueError(
                "soft_weight, hidden_weight and relation_weight are all 0: nothing else is learnt"
            )
        return settings


class Race(BaseModel):
    """A race in training: successive halving (Jamieson and Talwalkar 2016) over training steps.

    Args:
        finalists: architectures that begin: the best expected of each depth that is fast enough,
            shapes that people design by hand, and the best expected of all.
        unequal: so many of the best expected have neurons spread over their layers by what they
            are worth there, also where the space has equal layers only.
        rungs: steps that those still in the race train for by the first stage of ``distill``; after
            each, the better half by validation goes on. Its winner then has that stage to itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    finalists: int = Field(default=6, ge=2)
    unequal: int = Field(default=0, ge=0)
    rungs: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(100, 200), min_length=1)


class Distillation(BaseModel):
    """How a student learns on, once its architecture is chosen.

    Args:
        start: the weights it begins with: its ``own`` (the supernet's, or those in its folder),
            the ``teacher``'s leading units in its first layers, weights ``fitted`` to the
            teacher's activations in closed form (a finished model keeps its own), or ``random``
            ones. Where matrices are compressed, ``fitted`` fits their factors too, and so does
            ``own`` for a sub-network with compressed layers.
        stages: what it learns, one after the other.
        augmentation: of the texts, for stages on ``augmented`` data.
        texts: unlabelled texts, for stages on ``unlabelled`` data, as ``--data`` names data.
        limit: at most this many of them.
        checks: how often a student is scored on validation while a stage teaches predictions; it
            ends with the weights that scored best, those it began with included. A rung of a race
            is scored once, at its end. 0 takes the last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Literal["own", "teacher", "fitted", "random"] = "fitted"
    stages: tuple[DistillStage, ...] = Field(min_length=1)
    augmentation: Augmentation = Augmentation()
    texts: str = "pydoc"
    limit: int | None = Field(default=None, ge=1)
    checks: int = Field(default=6, ge=0)

    @field_validator("stages")
    @classmethod
    def _told_apart(cls, stages: tuple[DistillStage, ...]) -> tuple[DistillStage, ...]:
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages of one name among {', '.join(names)}")
        return stages


DISTIL = DistillStage(
    name="distil",
    training=TrainingSettings(epochs=12, learning_rate=3.75e-4),
    losses=Losses(hard=0.3, soft=1.0, hidden=1.0),
    temperature=2.0,
    reference_width=256,
)


class Recipe(BaseModel):
    """How much work goes into each stage.

    Args:
        max_length: tokens kept of an example.
        limit: at most this many training examples.
        validation_limit: at most this many examples of validation, on which all choices are made.
        finetune: of a teacher without a head for the task.
        importance_examples: examples on which importance is measured, and sub-networks are fitted
            before they are scored.
        fit_examples: examples on which students are fitted before they learn; None for all that
            fit in memory.
        general: an optional first training of the supernet on unlabelled text.
        supernet: its training on the task; None for no supernet.
        scores: of sub-networks as they are ``inherited`` from the supernet, ``repaired`` in closed
            form, or ``fitted`` to the teacher, without the supernet's weights.
        profile_s: time spent on profiling the device.
        count_disturbed: whether a busy machine's measurements count in the profile; else a profile
            is refused that has mostly such.
        search: evaluations and how they are chosen.
        race: in training, among the few that the search finds best; None to develop the best.
        distill: the chosen architecture's own training.
        confidence: probability that an architecture which the search finds within the budget
            measures within it.
        headroom: share of the budget left free, so that the model meets it again tomorrow.
        candidates: architectures timed on the device at most.
        timing_rounds: blocks of calls that are timed of a candidate, of the finished model, and of
            the teacher beside each: what their percentiles are told from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_length: int = Field(default=64, ge=4)
    limit: int | None = Field(default=None, ge=2)
    validation_limit: int | None = Field(default=None, ge=2)
    finetune: FinetuneSettings = FinetuneSettings()
    importance_examples: int = Field(default=512, ge=1)
    fit_examples: int | None = Field(default=None, ge=1)
    general: General | None = None
    supernet: SandwichSettings | None = None
    scores: Scores = "fitted"
    profile_s: float = Field(default=90.0, gt=0)
    count_disturbed: bool = False
    search: SearchSettings = SearchSettings()
    race: Race | None = None
    distill: Distillation = Distillation(stages=(DISTIL,))
    confidence: float = Field(default=0.9, gt=0, lt=1)
    headroom: float = Field(default=0.03, ge=0, lt=1)
    candidates: int = Field(default=6, ge=1)
    timing_rounds: int = Field(default=40, ge=3)

    @model_validator(mode="after")
    def _has_what_it_scores(self) -> Recipe:
        if self.supernet is None and (self.scores != "fitted" or self.general is not None):
            raise ValueError("without a supernet, scores must be fitted and general null")
        return self

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def load_recipe(name: str) -> Recipe:
    """The recipe of a name under ``configs/recipes``, or of a YAML file's path.

    Raises:
        NasError: no such recipe, not YAML, or a key or value that is not accepted.
    """
    return parse_recipe(read_config("recipes", name), f"recipe {name}")


def parse_recipe(data: Mapping[str, Any], what: str) -> Recipe:
    """The recipe that a mapping of plain values holds.

    A supernet that it trains is what sub-networks are scored by, unless it says otherwise.

    Args:
        what: names it in errors.

    Raises:
        NasError: a key or value that is not accepted.
    """
    if data.get("supernet") is not None:
        data = {"scores": "inherited", **data}
    search = data.get("search")
    if isinstance(search, Mapping) and search.get("fidelity") == 1:  # as reports once told it
        data = {**data, "search": {k: v for k, v in search.items() if k != "fidelity"}}
    try:
        return Recipe.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        unknown = ("extra_forbidden", "unexpected_keyword_argument")
        faults = sorted(error.errors(), key=lambda fault: fault["type"] not in unknown)
        first = faults[0]  # an unknown key is often why another is missing
        key = ".".join(str(part)[:80] for part in first["loc"])
        if first["type"] in unknown:
            raise NasError(f"{what}: unknown key {key}") from error
        raise NasError(f"{what}: {key}: {first['msg']}, not {shown(first['input'])}") from error
