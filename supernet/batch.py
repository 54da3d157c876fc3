"""ArchitectureBatch: many architectures as columns, for arithmetic over millions of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.architecture import Architecture, Layer

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ArchitectureBatch:
    """N architectures of up to L layers. Absent layers hold zeros.

    Args:
        hidden_size: (N,)
        num_layers: (N,)
        num_heads, qkv_size, intermediate_size: (N, L)
    """

    hidden_size: IntArray
    num_layers: IntArray
    num_heads: IntArray
    qkv_size: IntArray
    intermediate_size: IntArray

    @classmethod
    def of(cls, architectures: Sequence[Architecture]) -> ArchitectureBatch:
        depth = max((a.num_layers for a in architectures), default=1)
        layers = np.zeros((3, len(architectures), depth), dtype=np.int64)
        for row, architecture in enumerate(architectures):
            for column, layer in enumerate(architecture.layers):
                layers[:, row, column] = layer.num_heads, layer.qkv_size, layer.intermediate_size
        return cls(
            np.array([a.hidden_size for a in architectures], dtype=np.int64),
            np.array([a.num_layers for a in architectures], dtype=np.int64),
            *layers,
        )

    def __len__(self) -> int:
        return len(self.hidden_size)

    def __iter__(self) -> Iterator[Architecture]:
        return (self.architecture(row) for row in range(len(self)))

    def take(self, rows: IntArray | NDArray[np.bool_]) -> ArchitectureBatch:
        """The architectures at ``rows`` (indices or a mask)."""
        return ArchitectureBatch(
            self.hidden_size[rows],
            self.num_layers[rows],
            self.num_heads[rows],
            self.qkv_size[rows],
            self.intermediate_size[rows],
        )

    def architecture(self, row: int) -> Architecture:
        depth = int(self.num_layers[row])
        columns = (self.num_heads, self.qkv_size, self.intermediate_size)
        return Architecture(
            int(self.hidden_size[row]),
            tuple(
                Layer(*(int(column[row, layer]) for column in columns)) for layer in range(depth)
            ),
        )
