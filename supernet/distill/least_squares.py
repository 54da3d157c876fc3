"""A linear map solved for from examples that come in batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

Pairs = Iterable[tuple[Tensor, Tensor]]
"""Batches of inputs (examples, in_features) and targets (examples, out_features)."""


def least_squares(pairs: Pairs, prior: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """The weight and bias of a linear that maps inputs to targets.

    They minimize ``|X W^T + b - Y|^2 + strength s |W - prior|^2`` with s the mean sum of squares of
    a centred input, so directions that the examples hardly show stay as the prior has them (ridge
    regression towards a prior). Only sums over examples are kept, in float64.

    Args:
        prior: (out_features, in_features)

    Returns:
        (out_features, in_features) and (out_features,), as ``torch.nn.Linear`` has them.
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
    return (start + change).to(prior.dtype), (mean_y - change @ mean_x).to(prior.dtype)
