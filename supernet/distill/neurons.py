"""What the neurons of each layer are worth to a student, by what a fit is solved from.

ZipLM (Kurtic et al., NeurIPS 2023) and Puzzle (Bercovich et al. 2024) give each layer sizes of its
own by the error that a size leaves and the time that it takes. Here the errors are those of a fit.
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
    """How much of what each layer of the teacher puts out its leading neurons explain.

    Of the least squares that the output of a feed-forward network is solved from: with S the sums
    of its inputs' squares (a ridge included), C those of inputs times targets and S = L L^T, the
    leading n inputs explain the squares of the first n rows of L^-1 C. They count relative to the
    squares of what the teacher's layer normalizes, about their mean.

    Args:
        student: of any weights, its layers of as many neurons each; it is fitted.

    Returns:
        By the number of neurons from 1 on, (layers, neurons), ascending in each layer.
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
