"""A task: what is to be predicted, and by which metric that is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nas.tasks.metrics import METRICS_OF
from nas.tasks.units import Units
from supernet.errors import NasError

Kind = Literal["classification", "regression"]


@dataclass(frozen=True)
class Task:
    """What is to be predicted.

    Args:
        name: for people: the source's name.
        kind: "classification" or "regression".
        label_names: a name for each class index; empty for regression.
        metric: one of :data:`nas.tasks.metrics.METRICS` that fits the kind.
        pair: whether an example is a pair of texts.
        units: of a regression's values; those of classes have none.

    Raises:
        NasError: fewer than two classes, classes for a regression, a metric of the other kind.
    """

    name: str
    kind: Kind
    label_names: tuple[str, ...]
    metric: str
    pair: bool = False
    units: Units = Units()

    def __post_init__(self) -> None:
        if self.kind not in METRICS_OF:
            raise NasError(f"kind must be classification or regression, not {self.kind!r}")
        if self.metric not in METRICS_OF[self.kind]:
            raise NasError(
                f"metric {self.metric!r} is not for {self.kind}; "
                f"accepted: {', '.join(METRICS_OF[self.kind])}"
            )
        if self.kind == "regression" and self.label_names:
            raise NasError(f"a regression has no label names, not {self.label_names!r}")
        if self.kind == "classification" and len(self.label_names) < 2:
            raise NasError(f"a classification needs two classes, not {self.label_names!r}")

    @property
    def num_labels(self) -> int:
        """Outputs of the model's head: the classes, or 1 for regression."""
        return len(self.label_names) or 1
