"""The units of a regression's values, and those in which it is learnt.

A head that begins near 0 takes long to get at values of some hundreds, and a squared error in their
units drowns all other losses. So values are learnt with a mean of 0 and a deviation of 1, and what
is handed out predicts the values themselves, as its last linear takes up both numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

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
