"""What a user asks for, and where the work on it happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latency.device import THIS_MACHINE, Device
from latency.target import Budget, Target
from nas.cluster.options import RayOptions
from nas.pipeline.recipe import Recipe
from nas.store.workspace import Artifact, Workspace
from nas.terminal.progress import Display
from supernet.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is to be learnt, from whom.

    Args:
        teacher, data: sources, as :func:`nas.models.teacher.load_teacher` and
            :func:`nas.data.task_data.load_data` take them.
        labels: names of the classes of a teacher's ready head, in its order; None for those that it
            has in its own configuration.
        text_columns, label_column, metric: of the data, as
            :func:`nas.data.task_data.load_data` takes them.
        seed: of all chance in the run.
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
class Request(Lesson):
    """What a user asks a search for.

    Args:
        budget: of latency on ``target``.
        space: the architectures to choose from; what the teacher cannot hold is left out.
        max_parameters, max_memory_bytes: optional caps on the model.
    """

    budget: Budget
    space: SearchSpace
    target: Target
    max_parameters: int | None = None
    max_memory_bytes: int | None = None


@dataclass(frozen=True)
class Study:
    """A lesson at work: where its artifacts stand, and where its progress shows."""

    request: Lesson
    workspace: Workspace
    display: Display


@dataclass(frozen=True)
class Run(Study):
    """A search's request at work.

    Args:
        cluster: where candidates are scored; None for this process.
        train_workers: processes of the cluster that train the supernet together.
        trials: searches with other seeds that run first, side by side on the cluster.
        study_url: of an Optuna storage that records the search.
        supernet: the folder of one that was trained elsewhere, in place of training it.
        device: where latencies are measured.
    """

    request: Request
    cluster: RayOptions | None = None
    train_workers: int = 1
    trials: int = 1
    study_url: str | None = None
    supernet: Path | None = None
    device: Device = THIS_MACHINE


def origin(artifact: Artifact) -> str:
    """For a progress line: that an artifact stood there, or how long it took."""
    return " (from the workspace)" if artifact.reused else f" ({artifact.seconds:.0f} s)"
