"""Linear maps solved for from sums over examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Pairs = Iterable[tuple[Tensor, Tensor]]
"""Batches of inputs (examples, in_features) and targets (examples, out_features)."""


@dataclass(frozen=True)
class Moments:
    """Sums over examples of some inputs, and of what their targets are made of, in float64.

    Args:
        squares: of the inputs about their means, (in_features, in_features)
        means: of the inputs, then of each other, (features,)
        crosses: of the inputs with each other, about their means, (in_features, features)
    """

    squares: Tensor
    means: tuple[Tensor, ...]
    crosses: tuple[Tensor, ...]


@dataclass(frozen=True)
class Solution:
    """The least squares of a linear, in float64.

    Args:
        weight: the best, (out_features, in_features)
        moments: what an error of the weight costs: with D the difference, tr(D moments D^T) is
            added to the least sum of squares; (in_features, in_features)
        mean_inputs, mean_targets: (in_features,) and (out_features,)
    """

    weight: Tensor
    moments: Tensor
    mean_inputs: Tensor
    mean_targets: Tensor

    def bias(self, weight: Tensor) -> Tensor:
        """The best bias of any weight, (out_features,)."""
        return self.mean_targets - weight.double() @ self.mean_inputs


def moments(blocks: Iterable[tuple[Tensor, ...]]) -> Moments:
    """Sum up blocks of examples, which are at least one.

    Products are taken in the blocks' own precision about the first block's means, so that little
    is lost by it, and added up in float64.

    Args:
        blocks: inputs and others, each (examples, features)
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
    """The linear of least squares, by sums.

    It minimizes ``|X W^T + b - Y|^2 + strength s |W - prior|^2`` with s the mean sum of squares of
    a centred input, so directions that the examples hardly show stay as the prior has them (ridge
    regression towards a prior).

    Args:
        squares, cross: of the inputs, and of the inputs with the targets, about their means.
        prior: (out_features, in_features)
    """
    start, strengthened = prior.double(), ridged(squares, strength)
    change = torch.linalg.solve(strengthened, cross - squares @ start.T).T
    return Solution(start + change, strengthened, mean_inputs, mean_targets)


def ridged(squares: Tensor, strength: float) -> Tensor:
    """Sums of squares with ``strength`` times their mean added to each, (features, features)."""
    found = squares.clone()
    found.diagonal().add_(strength * squares.diagonal().mean().clamp(min=1e-30))
    return found


def least_squares(pairs: Pairs, prior: Tensor, strength: float) -> Solution:
    """The linear that maps inputs to targets: :func:`solved` by their sums.

    Args:
        prior: (out_features, in_features)
    """
    sums = moments(pairs)
    mean_inputs, mean_targets = sums.means
    return solved(sums.squares, sums.crosses[0], mean_inputs, mean_targets, prior, strength)
