"""The units of a regression's values, and those in which they are learnt.

A head that begins near 0 takes long to reach values of some hundreds, and a squared error in such
units drowns all other losses. So values are learnt with a mean of 0 and a deviation of 1. The last
linear layer of a finished model takes up both numbers, so that it predicts the values themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Units:
    """A value is ``offset`` plus ``scale`` times what is learnt.

    Example:
        >>> units = Units.of([100.0, 300.0])
        >>> units, units.learnt([200.0, 400.0])
        (Units(offset=200.0, scale=100.0), array([0., 2.]))
    """

    offset: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(cls, values: ArrayLike) -> Units:
        """Those of training values, (N,)."""
        given = np.asarray(values, np.float64)
        return cls(float(given.mean()), float(given.std()) or 1.0)

    def learnt(self, values: ArrayLike) -> NDArray[np.float64]:
        """Values as they are learnt."""
        found: NDArray[np.float64] = (np.asarray(values, np.float64) - self.offset) / self.scale
        return found


def predict_values(model: Any, units: Units) -> None:
    """Have a head that was trained on what is learnt predict the values, in place.

    Args:
        model: a BERT or TailorBERT classifier.
    """
    if units != Units():
        weight, bias = model.classifier.weight.data, model.classifier.bias.data
        weight.mul_(units.scale)
        bias.copy_(units.offset + units.scale * bias.double())


def predict_learnt(model: Any, units: Units) -> None:
    """Have a head that predicts values predict what is learnt, in place."""
    if units != Units():
        weight, bias = model.classifier.weight.data, model.classifier.bias.data
        weight.div_(units.scale)
        bias.copy_((bias.double() - units.offset) / units.scale)
