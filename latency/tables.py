"""ShapeTable: values of a function of a few sizes, computed once and then looked up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from latency.terms import FloatArray
from supernet.batch import IntArray

MOST_CELLS = 2**21
"""Limit of a table's cells, which take 16 MB."""

_ABSENT, _UNKNOWN = 0, 1  # the first two places along each axis
_AT_ONCE = 1024  # shapes computed in one call of the function, if they are not kept


class ShapeTable:
    """Values of ``function`` by shape, in an array with an axis for each size.

    Millions of shapes are looked up by arithmetic on their places along the axes. A value is
    computed once, when its shape first occurs. If new shapes would make the table outgrow
    :data:`MOST_CELLS`, they are computed each time.

    Args:
        function: from shapes, (N, D), to values, (N,), all finite.
        dimensions: D.
    """

    def __init__(self, function: Callable[[IntArray], FloatArray], dimensions: int) -> None:
        self._function = function
        self._values = [np.zeros(0, dtype=np.int64)] * dimensions
        self._places = [np.array([_ABSENT], dtype=np.int64)] * dimensions
        self._table = _unknown((2,) * dimensions)

    def __call__(self, *sizes: IntArray) -> FloatArray:
        """Values for D arrays of sizes that broadcast; 0 where any size is 0."""
        for axis, values in enumerate(sizes):
            self._reach(axis, int(values.max(initial=0)))
        found = self._look_up(sizes)
        if np.isnan(found.sum()):
            unknown = np.isnan(found)
            missing = [s[unknown] for s in np.broadcast_arrays(*sizes)]
            shapes = distinct(*missing)
            if self._holds(shapes):
                self._learn(shapes)
                found = self._look_up(sizes)
            else:
                found[unknown] = self._computed(np.stack(missing, axis=1))
        return found

    def _holds(self, shapes: IntArray) -> bool:
        """Whether the table has room for shapes, (M, D)."""
        lengths = [
            2 + len(np.union1d(*columns)) for columns in zip(self._values, shapes.T, strict=True)
        ]
        return math.prod(lengths) <= MOST_CELLS

    def _computed(self, shapes: IntArray) -> FloatArray:
        """Values of shapes that the table does not keep: (N, D) to (N,)."""
        once, back = np.unique(shapes, axis=0, return_inverse=True)
        parts = [self._function(once[i : i + _AT_ONCE]) for i in range(0, len(once), _AT_ONCE)]
        values: FloatArray = np.concatenate(parts)[back.reshape(-1)]
        return values

    def _look_up(self, sizes: tuple[IntArray, ...]) -> FloatArray:
        flat = self._places[0][sizes[0]]
        for axis in range(1, len(sizes)):
            flat = flat * self._table.shape[axis] + self._places[axis][sizes[axis]]
        return self._table.reshape(-1)[flat]

    def _reach(self, axis: int, largest: int) -> None:
        """Make places along an axis for sizes up to ``largest``."""
        missing = largest + 1 - len(self._places[axis])
        if missing > 0:
            self._places[axis] = np.pad(self._places[axis], (0, missing), constant_values=_UNKNOWN)

    def _learn(self, shapes: IntArray) -> None:
        """Compute ``shapes``, (M, D), and keep their values in a larger table."""
        kept, places_before = self._table, self._places
        values_before = self._values
        self._values = [
            np.union1d(values, column)
            for values, column in zip(self._values, shapes.T, strict=True)
        ]
        self._places = []
        for axis, values in enumerate(self._values):
            places = np.full(len(places_before[axis]), _UNKNOWN, dtype=np.int64)
            places[0] = _ABSENT
            places[values] = 2 + np.arange(len(values))
            self._places.append(places)
        self._table = _unknown([2 + len(values) for values in self._values])
        old = np.ix_(*(places[v] for places, v in zip(self._places, values_before, strict=True)))
        self._table[old] = kept[(slice(2, None),) * len(values_before)]
        new = tuple(places[column] for places, column in zip(self._places, shapes.T, strict=True))
        self._table[new] = self._function(shapes)


def distinct(*sizes: IntArray) -> IntArray:
    """The distinct shapes, (M, D), among N given as D arrays of N sizes."""
    ends = [int(values.max()) + 1 for values in sizes]
    if math.prod(ends) > np.iinfo(np.int64).max:
        return np.unique(np.stack(sizes, axis=1), axis=0).astype(np.int64)
    codes = np.unique(np.ravel_multi_index(sizes, ends))
    return np.stack(np.unravel_index(codes, ends), axis=1).astype(np.int64)


def _unknown(size: Sequence[int]) -> FloatArray:
    """A table without values: NaN, but 0 where any size is absent."""
    table = np.full(size, np.nan)
    for axis in range(table.ndim):
        table[(slice(None),) * axis + (_ABSENT,)] = 0.0
    return table
