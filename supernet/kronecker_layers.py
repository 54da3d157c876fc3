"""Linear and embedding layers whose weight is a sum of Kronecker products.

This file travels with every exported model that has such layers, so it imports nothing but torch.

A weight of (m1 m2, n1 n2) is the sum over terms of A (m1, n1) kron B (m2, n2). It is never formed:
(A kron B) x = vec(A X B^T) with X the input as an (n1, n2) matrix, row by row (Van Loan 2000).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KroneckerLinear(nn.Module):
    """A linear layer with a factored weight.

    Args:
        left: (m1, n1), the shape of A
        right: (m2, n2), the shape of B
        terms: how many products are summed.
    """

    def __init__(self, left: tuple[int, int], right: tuple[int, int], terms: int = 1) -> None:
        super().__init__()
        self.in_features = left[1] * right[1]
        self.out_features = left[0] * right[0]
        self.left = nn.Parameter(torch.empty(terms, *left))
        self.right = nn.Parameter(torch.empty(terms, *right))
        self.bias = nn.Parameter(torch.zeros(self.out_features))
        scale = (self.in_features * terms) ** -0.25
        nn.init.normal_(self.left, std=scale)
        nn.init.normal_(self.right, std=scale)

    @property
    def weight(self) -> Tensor:
        """The weight as a matrix, (out_features, in_features)."""
        return torch.einsum("rij,rkl->ikjl", self.left, self.right).reshape(
            self.out_features, self.in_features
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features), by whichever product is cheaper first."""
        terms, m1, n1 = self.left.shape
        _, m2, n2 = self.right.shape
        if n1 == m2 == 1:  # columns times rows: two plain linears
            return F.linear(F.linear(inputs, self.right[:, 0]), self.left[..., 0].T, self.bias)
        matrix = inputs.unflatten(-1, (n1, n2))
        if n1 * n2 * m2 + m1 * n1 * m2 <= m1 * n1 * n2 + m1 * n2 * m2:
            right = self.right.reshape(terms * m2, n2)
            inner = F.linear(matrix, right).unflatten(-1, (terms, m2))  # (..., n1, terms, m2)
            inner = inner.transpose(-3, -2).flatten(-3, -2)  # (..., terms n1, m2)
            outer = self.left.transpose(0, 1).reshape(m1, terms * n1) @ inner
        else:
            left = self.left.reshape(terms * m1, n1)
            inner = (left @ matrix).unflatten(-2, (terms, m1))  # (..., terms, m1, n2)
            inner = inner.transpose(-3, -2).flatten(-2)  # (..., m1, terms n2)
            outer = inner @ self.right.transpose(1, 2).reshape(terms * n2, m2)
        return outer.flatten(-2) + self.bias


class KroneckerEmbedding(nn.Module):
    """A table of embeddings whose rows are sums of Kronecker products of two short rows.

    Args:
        num_embeddings: rows.
        left_size, right_size: n1 and n2; an embedding has n1 n2 dimensions.
        terms: how many products are summed.
    """

    def __init__(
        self, num_embeddings: int, left_size: int, right_size: int, terms: int = 1
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = left_size * right_size
        self.left = nn.Parameter(torch.empty(terms, num_embeddings, left_size))
        self.right = nn.Parameter(torch.empty(terms, 1, right_size))
        nn.init.normal_(self.left, std=0.02**0.5 * terms**-0.25)
        nn.init.normal_(self.right, std=0.02**0.5 * terms**-0.25)

    @property
    def weight(self) -> Tensor:
        """The table, (num_embeddings, embedding_dim)."""
        return torch.einsum("rvi,rj->vij", self.left, self.right[:, 0]).flatten(1)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape to (..., embedding_dim)."""
        rows = self.left[:, ids]  # (terms, ..., n1)
        return torch.einsum("r...i,rj->...ij", rows, self.right[:, 0]).flatten(-2)
