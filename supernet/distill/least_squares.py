"""Linear maps by least squares, from sums over examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Pairs = Iterable[tuple[Tensor, Tensor]]
"""Batches of inputs (examples, in_features) and targets (examples, out_features)."""


@dataclass(frozen=True)
class Moments:
    """Sums over examples of inputs and of other values, in float64.

    Args:
        squares: sum of squares of the centred inputs, (in_features, in_features)
        means: mean of the inputs, then of each of the other values, (features,)
        crosses: sum of products of the centred inputs with each of the other values, centred,
            (in_features, features)
    """

    squares: Tensor
    means: tuple[Tensor, ...]
    crosses: tuple[Tensor, ...]


@dataclass(frozen=True)
class Solution:
    """The least-squares solution for a linear layer, in float64.

    Args:
        weight: the best weight, (out_features, in_features)
        moments: the cost of another weight: one that differs by D adds tr(D moments D^T) to the
            least sum of squares; (in_features, in_features)
        mean_inputs, mean_targets: (in_features,) and (out_features,)
    """

    weight: Tensor
    moments: Tensor
    mean_inputs: Tensor
    mean_targets: Tensor

    def bias(self, weight: Tensor) -> Tensor:
        """The best bias for a given weight, (out_features,)."""
        return self.mean_targets - weight.double() @ self.mean_inputs


def moments(blocks: Iterable[tuple[Tensor, ...]]) -> Moments:
    """Sum up blocks of at least one example.

    Products are computed in the blocks' own precision, centred on the first block's means to lose
    little precision, and added up in float64.

    Args:
        blocks: inputs and other values, each (examples, features)
    """
    shifts: list[Tensor] = []
    sums: list[Tensor] = []
    products: list[Tensor] = []
    count = 0
    for block in blocks:
        if not len(block[0]):
            continue
        if not shifts:
            shifts = [one.mean(0) for one in block]
            sums = [torch.zeros_like(one, dtype=torch.double) for one in shifts]
            width = len(shifts[0])
            products = [one.new_zeros(width, len(one), dtype=torch.double) for one in shifts]
        inputs, *others = (one - shift for one, shift in zip(block, shifts, strict=True))
        for total, one in zip(sums, (inputs, *others), strict=True):
            total += one.sum(0)
        for product, one in zip(products, (inputs, *others), strict=True):
            product += inputs.T @ one
        count += len(inputs)
    for product, total in zip(products, sums, strict=True):
        product -= torch.outer(sums[0], total) / count
    means = tuple(shift.double() + total / count for shift, total in zip(shifts, sums, strict=True))
    return Moments(products[0], means, tuple(products[1:]))


def solved(
    squares: Tensor,
    cross: Tensor,
    mean_inputs: Tensor,
    mean_targets: Tensor,
    prior: Tensor,
    strength: float,
) -> Solution:
    """Ridge regression towards a prior weight, from sums over examples.

    It minimizes ``|X W^T + b - Y|^2 + strength s |W - prior|^2``, where s is the mean over inputs
    of the centred sum of squares. Directions in which inputs hardly vary keep the prior's weight.

    Args:
        squares: sum of squares of the centred inputs, (in_features, in_features)
        cross: sum of products of centred inputs and targets, (in_features, out_features)
        mean_inputs, mean_targets: (in_features,) and (out_features,)
        prior: (out_features, in_features)
        strength: of the ridge.
    """
    start, strengthened = prior.double(), ridged(squares, strength)
    change = torch.linalg.solve(strengthened, cross - squares @ start.T).T
    return Solution(start + change, strengthened, mean_inputs, mean_targets)


def ridged(squares: Tensor, strength: float) -> Tensor:
    """``squares`` with ``strength`` times its mean diagonal added to the diagonal."""
    found = squares.clone()
    found.diagonal().add_(strength * squares.diagonal().mean().clamp(min=1e-30))
    return found


def least_squares(pairs: Pairs, prior: Tensor, strength: float) -> Solution:
    """The linear map from inputs to targets: :func:`solved` with sums over ``pairs``.

    Args:
        prior: (out_features, in_features)
    """
    sums = moments(pairs)
    mean_inputs, mean_targets = sums.means
    return solved(sums.squares, sums.crosses[0], mean_inputs, mean_targets, prior, strength)
