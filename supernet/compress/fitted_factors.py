"""Kronecker factors with nearly the outputs of a matrix, on the inputs that occur.

Factors nearest to the weights also approximate directions in which no input lies. Factors nearest
by outputs minimize tr((W - K) S (W - K)^T), where S are the second moments of the inputs. With one
factor of each product fixed, this is least squares in the other, so the two are solved for in turn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from supernet.compress.kronecker import nearest
from supernet.factors import Factors

ROUNDS = 6
"""Rounds of solving for both factors in turn. No round increases the error."""


def nearest_by_outputs(matrix: Tensor, moments: Tensor, factors: Factors) -> tuple[Tensor, Tensor]:
    """A sum of Kronecker products whose outputs are near those of a matrix.

    Products of a column and a row, (m, 1) kron (1, n), have a closed form: the truncated singular
    value decomposition of W S^(1/2). All others start nearest by weights and improve from there.

    Args:
        matrix: W, (m1 m2, n1 n2)
        moments: S, (n1 n2, n1 n2), positive definite

    Returns:
        A (terms, m1, n1) and B (terms, m2, n2), in the matrix's type.
    """
    weight, squares = matrix.double(), moments.double()
    (m1, n1), (m2, n2) = factors.left, factors.right
    if n1 == m2 == 1:
        root = torch.linalg.cholesky(squares)
        u, s, vh = torch.linalg.svd(weight @ root, full_matrices=False)
        rows = torch.linalg.solve_triangular(
            root, s[: factors.terms, None] * vh[: factors.terms], upper=False, left=False
        )
        left, right = u.T[: factors.terms, :, None], rows[:, None]
    else:
        cross = (weight @ squares).reshape(m1, m2, n1, n2)
        pairs = squares.reshape(n1, n2, n1, n2)
        left, right = nearest(weight, factors)
        for _ in range(ROUNDS):
            right = _other(left, pairs, cross)
            left = _other(right, pairs.permute(1, 0, 3, 2), cross.permute(1, 0, 3, 2))
    return left.to(matrix.dtype), right.to(matrix.dtype)


def _other(fixed: Tensor, pairs: Tensor, cross: Tensor) -> Tensor:
    """The best second factors for given first factors.

    Args:
        fixed: (terms, m1, n1)
        pairs: the moments, (n1, n2, n1, n2)
        cross: W S, (m1, m2, n1, n2)

    Returns:
        (terms, m2, n2)
    """
    gram = torch.einsum("rik,siq->rksq", fixed, fixed)
    squares = torch.einsum("rksq,kjql->rjsl", gram, pairs).flatten(2).flatten(0, 1)
    wanted = torch.einsum("rik,imkj->mrj", fixed, cross).flatten(1)  # (m2, terms n2)
    ridge = 1e-9 * squares.diagonal().mean().clamp(min=1e-30)  # if terms are equal
    squares.diagonal().add_(ridge)
    found = torch.linalg.solve(squares, wanted.T).T
    return found.unflatten(1, (len(fixed), -1)).transpose(0, 1)


def nearest_table(table: Tensor, shares: Tensor, factors: Factors) -> tuple[Tensor, Tensor]:
    """The best factors of a table of embeddings whose rows have different weights.

    The rows of B are the principal directions of all pieces of n2 dimensions that the table's rows
    consist of. So the error, the weighted sum of squares outside their span, is the least possible
    for these shapes.

    Args:
        table: (rows, n1 n2)
        shares: weight of each row, (rows,)

    Returns:
        A (terms, rows, n1) and B (terms, 1, n2), in the table's type.
    """
    parts = table.double().unflatten(1, (factors.left[1], -1))  # (rows, n1, n2)
    spread = torch.einsum("v,vkj,vkl->jl", shares.double(), parts, parts)
    _, directions = torch.linalg.eigh(spread)
    chosen = directions[:, -factors.terms :]  # (n2, terms)
    left = (parts @ chosen).permute(2, 0, 1)
    return left.to(table.dtype), chosen.T[:, None].to(table.dtype)
