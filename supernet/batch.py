"""ArchitectureBatch: many architectures as arrays, for arithmetic over millions of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.architecture import Architecture, Layer

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ArchitectureBatch:
    """N architectures of up to L layers.

    Args:
        hidden_size: (N,)
        num_layers: (N,)
        num_heads, qkv_size, intermediate_size, compression: (N, L), with zeros where a layer is
            absent; or (N, 1) if the layers of each architecture are equal, whatever its depth.
    """

    hidden_size: IntArray
    num_layers: IntArray
    num_heads: IntArray
    qkv_size: IntArray
    intermediate_size: IntArray
    compression: IntArray

    @classmethod
    def of(cls, architectures: Sequence[Architecture]) -> ArchitectureBatch:
        depth = max((a.num_layers for a in architectures), default=1)
        layers = np.zeros((4, len(architectures), depth), dtype=np.int64)
        for row, architecture in enumerate(architectures):
            for column, layer in enumerate(architecture.layers):
                layers[:3, row, column] = layer.num_heads, layer.qkv_size, layer.intermediate_size
                layers[3, row, column] = layer.compression
        return cls(
            np.array([a.hidden_size for a in architectures], dtype=np.int64),
            np.array([a.num_layers for a in architectures], dtype=np.int64),
            *layers,
        )

    @classmethod
    def join(cls, *batches: ArchitectureBatch) -> ArchitectureBatch:
        """The architectures of several batches, one after the other."""
        whole = [batch.expanded() for batch in batches]
        depth = max(batch.num_heads.shape[1] for batch in whole)
        columns = [
            [np.pad(column, ((0, 0), (0, depth - column.shape[1]))) for column in batch._layers()]
            for batch in whole
        ]
        return cls(
            np.concatenate([batch.hidden_size for batch in whole]),
            np.concatenate([batch.num_layers for batch in whole]),
            *map(np.concatenate, zip(*columns, strict=True)),
        )

    def _layers(self) -> tuple[IntArray, ...]:
        return self.num_heads, self.qkv_size, self.intermediate_size, self.compression

    def __len__(self) -> int:
        return len(self.hidden_size)

    def __iter__(self) -> Iterator[Architecture]:
        return (self.architecture(row) for row in range(len(self)))

    def take(self, rows: IntArray | NDArray[np.bool_]) -> ArchitectureBatch:
        """The architectures at ``rows`` (indices or a mask)."""
        hidden_size, num_layers = self.hidden_size[rows], self.num_layers[rows]
        return ArchitectureBatch(hidden_size, num_layers, *(one[rows] for one in self._layers()))

    @property
    def is_factored(self) -> bool:
        """Whether any layer of any architecture is compressed."""
        return bool((self.compression > 1).any())

    @property
    def weights(self) -> IntArray:
        """:meth:`supernet.architecture.Layer.weights` of every layer, (N, L) or (N, 1)."""
        hidden = self.hidden_size[:, None]
        if not self.is_factored:
            return hidden * (4 * self.qkv_size + 2 * self.intermediate_size)
        return 4 * matrix_entries(hidden, self.qkv_size, self.compression) + 2 * matrix_entries(
            hidden, self.intermediate_size, self.compression
        )

    @property
    def has_equal_layers(self) -> bool:
        """Whether one column stands for all layers of an architecture."""
        return self.qkv_size.shape[1] == 1

    def over_layers(self, values: NDArray[Any], *, but_last: bool = False) -> NDArray[Any]:
        """Sum over the layers of each architecture, (N,).

        Args:
            values: one for each layer, (N, L) or (N, 1) like the sizes; 0 where a layer is absent.
            but_last: whether to leave out each architecture's last layer.
        """
        if self.has_equal_layers:
            return values[:, 0] * (self.num_layers - but_last)
        total: NDArray[Any] = values.sum(axis=1)
        return total - self.of_last(values) if but_last else total

    def of_last(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values of each architecture's last layer, (N,); see :meth:`over_layers`."""
        if self.has_equal_layers:
            return values[:, 0]
        return values[np.arange(len(self)), self.num_layers - 1]

    def expanded(self) -> ArchitectureBatch:
        """The same architectures with a column for each layer, (N, L)."""
        if not self.has_equal_layers:
            return self
        present = np.arange(self.num_layers.max(initial=1)) < self.num_layers[:, None]  # (N, L)
        layers = (one * present for one in self._layers())
        return ArchitectureBatch(self.hidden_size, self.num_layers, *layers)

    def architecture(self, row: int) -> Architecture:
        depth = int(self.num_layers[row])
        if self.has_equal_layers and depth > 1:
            return self.take(np.array([row])).expanded().architecture(0)
        columns = self._layers()
        return Architecture(
            int(self.hidden_size[row]),
            tuple(
                Layer(*(int(column[row, layer]) for column in columns)) for layer in range(depth)
            ),
        )


def matrix_entries(rows: IntArray, columns: IntArray, compression: IntArray) -> IntArray:
    """Entries of matrices, or of the factors of compressed ones (:func:`supernet.factors.entries`).

    All arguments broadcast. Absent matrices, with 0 rows or columns, have 0 entries.
    """
    whole = rows * columns
    rank = whole // np.maximum(compression, 1) // np.maximum(rows + columns, 1)
    return np.where((compression > 1) & (rank > 0), rank * (rows + columns), whole)
