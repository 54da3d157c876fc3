"""A linear map solved for from examples."""

from __future__ import annotations

import torch
from torch import Tensor


def least_squares(
    inputs: Tensor, targets: Tensor, prior: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    """The weight and bias of a linear that maps ``inputs`` to ``targets``.

    They minimize ``|X W^T + b - Y|^2 + strength s |W - prior|^2`` with s the mean sum of squares of
    a centred input, so directions that the examples hardly show stay as the prior has them (ridge
    regression towards a prior; solved in float64).

    Args:
        inputs: (examples, in_features)
        targets: (examples, out_features)
        prior: (out_features, in_features)

    Returns:
        (out_features, in_features) and (out_features,), as ``torch.nn.Linear`` has them.
    """
    x, y, start = inputs.double(), targets.double(), prior.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    moments = x.T @ x
    moments.diagonal().add_(strength * moments.diagonal().mean().clamp(min=1e-30))
    weight = start + torch.linalg.solve(moments, x.T @ (y - x @ start.T)).T
    return weight.to(prior.dtype), (mean_y - weight @ mean_x).to(prior.dtype)
