"""A task: what is to be predicted, and by which metric that is scored."""

from __future__ import annotations

from dataclasses import dataclass

from nas.tasks.kind import Kind, Names
from nas.tasks.units import Units


@dataclass(frozen=True)
class Task:
    """What is to be predicted.

    Args:
        name: the source's name, for people.
        kind: one of :data:`nas.tasks.kinds.KINDS`.
        label_names: a name for each class index; empty where labels are values.
        metric: the name of a metric of this kind.
        pair: whether an example is a pair of texts.
        units: in which values are learnt; classes have none.

    Raises:
        NasError: names that no task of this kind has, or a metric of another kind.
    """

    name: str
    kind: Kind
    label_names: Names
    metric: str
    pair: bool = False
    units: Units = Units()

    def __post_init__(self) -> None:
        self.kind.metric(self.metric)
        self.kind.check_names(self.label_names)

    @property
    def outputs(self) -> Names:
        """Names of the outputs of the model's head."""
        return self.kind.outputs or self.label_names

    @property
    def num_labels(self) -> int:
        """The number of outputs of the model's head."""
        return len(self.outputs)
