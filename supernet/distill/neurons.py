"""How much the neurons of each layer contribute to a student, by the sums of a fit.

ZipLM (Kurtic et al., NeurIPS 2023) and Puzzle (Bercovich et al. 2024) choose a size for each layer
by the error that the size leaves and the time that it takes. Here the error is that of a fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from supernet.architecture import layer_map
from supernet.distill.evidence import Evidence
from supernet.distill.fitted_start import STRENGTH, fit
from supernet.distill.least_squares import ridged


@torch.no_grad()
def explained(student: Any, evidence: Evidence) -> NDArray[np.float64]:
    """The share of each teacher layer's output that the leading neurons of a student explain.

    The output of a feed-forward network is solved for by least squares. Let S be the sums of
    squares of its inputs, ridge included, C the sums of inputs times targets, and S = L L^T. Then
    the leading n inputs explain the squares of the first n rows of L^-1 C. The share is relative to
    the sum of squares, about the mean, of what the teacher's layer normalizes.

    Args:
        student: a student with the same number of neurons in each layer. It is fitted in place.

    Returns:
        Share explained by the first n neurons, n from 1, (layers, neurons); ascending.
    """
    found = []
    solved_from = fit(student, evidence)
    mapped = layer_map(len(solved_from), evidence.architecture.num_layers)
    for number, (squares, cross) in zip(mapped[1:], solved_from, strict=True):
        lower = torch.linalg.cholesky(ridged(squares, STRENGTH))
        rows = torch.linalg.solve_triangular(lower, cross, upper=False)
        total = evidence.layer(number - 1).output_sum
        scale = (total - total.mean(0)).square().sum().double()
        found.append(rows.square().sum(1).cumsum(0) / scale)
    return torch.stack(found).cpu().numpy()
