"""What a user asks for, and what there is to work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latency.device import THIS_MACHINE, Device
from latency.target import Budget, Target
from nas.cluster.options import RayOptions
from nas.pipeline.recipe import Recipe
from supernet.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is to be learnt, and from which teacher.

    Args:
        teacher, data: sources, as :func:`nas.models.teacher.load_teacher` and
            :func:`nas.data.task_data.load_data` take them.
        labels: names of the classes of a teacher's ready head, in its order; None for those that it
            has in its own configuration.
        text_columns, label_column, metric: of the data, as
            :func:`nas.data.task_data.load_data` takes them.
        seed: of all chance.
    """

    teacher: str
    data: str
    recipe: Recipe
    text_columns: Sequence[str] | None = None
    label_column: str = "label"
    metric: str | None = None
    labels: Sequence[str] | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What one model must keep to, and where that is measured.

    Args:
        budget: of latency on ``target``.
        device: that measures it.
        max_parameters, max_memory_bytes: optional caps on the model.
    """

    target: Target
    budget: Budget
    device: Device = THIS_MACHINE
    max_parameters: int | None = None
    max_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Request(Lesson):
    """What a user asks a search for.

    Args:
        aims: one model is handed over for each; one search serves all.
        space: the architectures to choose from; what the teacher cannot hold is left out.
        supernet: the folder of one that was trained elsewhere; None to train one as the recipe
            says.
    """

    aims: tuple[Aim, ...]
    space: SearchSpace
    supernet: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a search may use besides this process.

    Args:
        cluster: where candidates are scored and trained; None for this process alone.
        train_workers: processes of the cluster that train the supernet together.
        trials: searches with other seeds that run first, side by side on the cluster.
        study_url: of an Optuna storage that records the search.
    """

    cluster: RayOptions | None = None
    train_workers: int = 1
    trials: int = 1
    study_url: str | None = None
