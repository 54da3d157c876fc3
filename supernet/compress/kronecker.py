"""KroneckerBERT (Tahaei et al. 2021): every large matrix becomes a sum of Kronecker products.

The sum of r products nearest to a matrix is the best rank-r approximation of the matrix that has
its blocks as rows (Van Loan and Pitsianis 1993). So a compressed model starts near the original.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from supernet.errors import NasError
from supernet.factors import Factors, Rule
from supernet.kronecker_layers import KroneckerEmbedding, KroneckerLinear
from supernet.modeling_tailorbert import TailorBertForSequenceClassification
from supernet.student import tailored

WORDS = "embeddings.word_embeddings"


def rearranged(matrix: Tensor, left: tuple[int, int]) -> Tensor:
    """A matrix with its blocks as rows, in which A kron B is the outer product vec(A) vec(B)^T.

    Args:
        matrix: (m1 m2, n1 n2)
        left: (m1, n1)

    Returns:
        (m1 n1, m2 n2)
    """
    m1, n1 = left
    blocks = matrix.unflatten(0, (m1, -1)).unflatten(2, (n1, -1))  # (m1, m2, n1, n2)
    return blocks.transpose(1, 2).flatten(2).flatten(0, 1)


def nearest(matrix: Tensor, factors: Factors) -> tuple[Tensor, Tensor]:
    """The sum of Kronecker products nearest to a matrix in the Frobenius norm.

    The error is the norm of the omitted singular values of :func:`rearranged`.

    Returns:
        A (terms, m1, n1) and B (terms, m2, n2).
    """
    blocks = rearranged(matrix.detach().double(), factors.left)
    u, s, vh = torch.linalg.svd(blocks, full_matrices=False)
    root = s[: factors.terms].sqrt()
    left = (u[:, : factors.terms] * root).T.unflatten(1, factors.left)
    right = (root[:, None] * vh[: factors.terms]).unflatten(1, factors.right)
    return left.to(matrix.dtype), right.to(matrix.dtype)


def plan(model: PreTrainedModel, parameters: int, rule: Rule) -> dict[str, Factors]:
    """Factors of every large matrix, so that the model has at most ``parameters``.

    All matrices become smaller by one ratio, the smallest that suffices. The table of words has few
    shapes to choose from and may become smaller than needed; what it saves goes to the other
    matrices, again by one ratio. Positions, segments, pooler, classifier, biases and normalizations
    stay as they are, and so does a matrix for which no factors are small enough.

    Args:
        model: a BERT or TailorBERT classifier.

    Returns:
        For each matrix its factors, by the name of its module in the encoder.

    Raises:
        NasError: no ratio makes the model so small. The error names the smallest size.
    """
    matrices = dict(large_matrices(model))
    others = model.num_parameters() - sum(rows * columns for rows, columns in matrices.values())

    def chosen(ratio: float) -> dict[str, Factors]:
        found = {
            name: rule(rows, columns, ratio, name == WORDS)
            for name, (rows, columns) in matrices.items()
        }
        return {name: factors for name, factors in found.items() if factors is not None}

    def size(factors: Mapping[str, Factors]) -> int:
        return others + sum(
            factors[name].parameters if name in factors else rows * columns
            for name, (rows, columns) in matrices.items()
        )

    plans = [chosen(ratio) for ratio in np.geomspace(1.0, 4096.0, 400)]
    sizes = [size(one) for one in plans]
    fitting = [one for one, total in zip(plans, sizes, strict=True) if total <= parameters]
    if not fitting:
        raise NasError(f"parameters must be at least {min(sizes):,}, not {parameters:,}")
    table = {name: factors for name, factors in fitting[0].items() if name == WORDS}
    return next(one for one in (other | table for other in plans) if size(one) <= parameters)


def large_matrices(model: PreTrainedModel) -> Iterator[tuple[str, tuple[int, int]]]:
    """Rows and columns of the word embeddings and all layers' linears, by name in the encoder."""
    encoder: Any = model.bert
    for name, module in encoder.named_modules():
        if name == WORDS or (name.startswith("encoder.layer.") and isinstance(module, nn.Linear)):
            rows, columns = module.weight.shape
            yield name, (rows, columns)


def factorized(model: PreTrainedModel, factors: Mapping[str, Factors]) -> PreTrainedModel:
    """A TailorBERT in which the nearest sums of Kronecker products replace the named matrices.

    Args:
        model: a BERT or TailorBERT classifier; not changed.
        factors: by module name, as :func:`plan` gives them.
    """
    compressed = unfitted(model, factors)
    with torch.no_grad():
        for name, one in factors.items():
            dense: Any = model.get_submodule(f"bert.{name}")
            module: Any = compressed.get_submodule(f"bert.{name}")
            left, right = nearest(dense.weight, one)
            module.left.copy_(left)
            module.right.copy_(right)
    return compressed


def unfitted(model: PreTrainedModel, factors: Mapping[str, Factors]) -> PreTrainedModel:
    """As :func:`factorized`, but with random factors, to be fitted later."""
    config = tailored(model.config)
    config.factors = {name: one.sizes for name, one in sorted(factors.items())}
    compressed = TailorBertForSequenceClassification(config)
    weights = model.state_dict()
    for name in factors:
        del weights[f"bert.{name}.weight"]
    compressed.load_state_dict(compressed.state_dict() | weights)
    nn.Module.to(compressed, model.device)
    return compressed.eval()


def factors_of(module: KroneckerLinear | KroneckerEmbedding) -> Factors:
    """The shapes of a factored layer."""
    terms, m1, n1 = module.left.shape
    _, m2, n2 = module.right.shape
    return Factors((m1, n1), (m2, n2), terms)


def densified(model: PreTrainedModel) -> PreTrainedModel:
    """A TailorBERT of the same function with whole matrices, which may be faster to serve."""
    config = tailored(model.config)
    config.factors = None
    dense = TailorBertForSequenceClassification(config)
    weights = model.state_dict()
    for name in list(model.config.factors or {}):
        encoder: Any = model.bert
        weights[f"bert.{name}.weight"] = encoder.get_submodule(name).weight.detach().clone()
        del weights[f"bert.{name}.left"], weights[f"bert.{name}.right"]
    dense.load_state_dict(weights)
    nn.Module.to(dense, model.device)
    return dense.eval()
