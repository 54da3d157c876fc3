"""What a teacher's configuration tells of it, before its weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from latency.onnx_graph import check_activation
from nas.models.teacher import check_head_labels, has_head, read_config
from nas.tasks.task import Task
from supernet.architecture import Architecture, EncoderShape
from supernet.configs import load_space
from supernet.convert import bert_config
from supernet.errors import NasError
from supernet.space import SearchSpace, trimmed
from supernet.student import architecture_of, shape_of


class Outline(NamedTuple):
    """What there is to know of a model before its weights are read."""

    architecture: Architecture
    shape: EncoderShape


def outline(source: str | Path, num_labels: int | None = None) -> Outline:
    """A teacher's outline as stock BERT, from its configuration alone.

    Args:
        num_labels: of the task, where the head is not yet the task's.

    Raises:
        NasError: as :func:`nas.models.teacher.load_teacher`.
    """
    config = bert_config(read_config(str(source)))
    shape = shape_of(config)
    shape = replace(shape, num_labels=num_labels or shape.num_labels)
    return Outline(architecture_of(config), shape)


def suiting_space(teacher: str) -> SearchSpace:
    """The space to search where none is named: it goes by the teacher's width."""
    largest = outline(teacher).architecture
    if largest.hidden_size > 384:
        with suppress(NasError):  # its only number of heads is 12, which not all teachers have
            return trimmed(load_space("autotinybert-kd"), largest)
    return load_space("minilm")


def inspect_teacher(
    source: str, task: Task, *, max_length: int, labels: Sequence[str] | None = None
) -> Outline:
    """A teacher's outline for a task, and whether all that comes will work with it.

    Args:
        labels: as of :func:`nas.models.teacher.load_teacher`.

    Raises:
        NasError: as :func:`nas.models.teacher.load_teacher`, more tokens than the teacher has
            positions, or an activation without ONNX form.
    """
    config = read_config(source)
    if has_head(config):
        check_head_labels(source, config, task, labels)
    found = outline(source, task.num_labels)
    if max_length > found.shape.max_positions:
        raise NasError(
            f"recipe: max_length {max_length} is more than the teacher's "
            f"{found.shape.max_positions} positions"
        )
    check_activation(found.shape)
    return found
