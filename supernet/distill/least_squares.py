"""A linear map solved for from examples that come in batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Pairs = Iterable[tuple[Tensor, Tensor]]
"""Batches of inputs (examples, in_features) and targets (examples, out_features)."""


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


def least_squares(pairs: Pairs, prior: Tensor, strength: float) -> Solution:
    """The linear that maps inputs to targets.

    It minimizes ``|X W^T + b - Y|^2 + strength s |W - prior|^2`` with s the mean sum of squares of
    a centred input, so directions that the examples hardly show stay as the prior has them (ridge
    regression towards a prior). Only sums over examples are kept.

    Args:
        prior: (out_features, in_features)
    """
    start = prior.double()
    outputs, inputs = start.shape
    squares, cross = start.new_zeros(inputs, inputs), start.new_zeros(inputs, outputs)
    sum_x, sum_y, count = start.new_zeros(inputs), start.new_zeros(outputs), 0
    for some, targets in pairs:
        x = some.double()
        y = targets.double() - x @ start.T  # what the prior leaves
        squares += x.T @ x
        cross += x.T @ y
        sum_x += x.sum(0)
        sum_y += y.sum(0)
        count += len(x)
    mean_x, mean_y = sum_x / count, sum_y / count
    squares -= torch.outer(sum_x, mean_x)
    cross -= torch.outer(sum_x, mean_y)
    squares.diagonal().add_(strength * squares.diagonal().mean().clamp(min=1e-30))
    change = torch.linalg.solve(squares, cross).T
    return Solution(start + change, squares, mean_x, mean_y + start @ mean_x)
