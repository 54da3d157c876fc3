"""Narrow attention heads that compute nearly what wide ones do.

A student's heads may be narrower than its teacher's. Attention depends only on the products of
queries and keys, and on the products of values and the output projection. So a narrow head does not
keep some of the wide head's dimensions, but the best combinations of them: a low-rank approximation
of both products, weighted by the states that occur in texts (theorem of Eckart and Young).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from supernet.architecture import Layer


class HeadMaps(NamedTuple):
    """Linear maps from wide heads to narrow ones, in float64.

    Args:
        query, key, value: (heads, head size, wide head size)
        output: for the output projection, which reads the heads, (heads, wide head size, head size)
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor


def head_maps(
    attention: Any, num_heads: int, sizes: Layer, covariance: Tensor, mean: Tensor
) -> HeadMaps:
    """The best maps of a layer's leading heads to narrower ones.

    Args:
        attention: the ``BertAttention`` of the wide layer.
        num_heads: heads of the wide layer.
        sizes: the narrow layer.
        covariance, mean: of the states that the layer reads, (hidden, hidden) and (hidden,), in
            float64.
    """
    kept, size = sizes.num_heads, sizes.head_size

    def heads(linear: Any) -> tuple[Tensor, Tensor]:
        """Covariance (heads, size, size) and mean (heads, size) of a linear's outputs."""
        weight = linear.weight.double().unflatten(0, (num_heads, -1))[:kept]
        bias = linear.bias.double().unflatten(0, (num_heads, -1))[:kept]
        return weight @ covariance @ weight.mT, weight @ mean + bias

    # Adding the same vector to all keys changes no attention, so keys are centred.
    spread, middle = heads(attention.self.query)
    queries, inverse = _roots(spread + middle[:, :, None] * middle[:, None])
    keys, _ = _roots(heads(attention.self.key)[0])
    left, found, _ = torch.linalg.svd(queries @ keys)
    left, scale = left[..., :size], found[..., None, :size].clamp(min=1e-12).sqrt()
    query = (inverse @ left * scale).mT
    key = (queries @ left / scale).mT

    # Attention sums to 1, so the mean of the values always arrives; values are centred.
    values, inverse = _roots(heads(attention.self.value)[0])
    output = attention.output.dense.weight.double().unflatten(1, (num_heads, -1))[:, :kept]
    _, found, right = torch.linalg.svd(output.transpose(0, 1) @ values, full_matrices=False)
    right, scale = right[..., :size, :], found[..., :size, None].clamp(min=1e-12).sqrt()
    return HeadMaps(query, key, scale * (right @ inverse), (values @ right.mT) / scale.mT)


def _roots(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Root and inverse root of positive semidefinite matrices; (nearly) zero eigenvalues give 0."""
    found, vectors = torch.linalg.eigh(squares)
    least = 1e-10 * found[..., -1:].clamp(min=1e-30)
    roots = found.clamp(min=0).sqrt()
    inverse = torch.where(found > least, 1 / roots.clamp(min=1e-30), 0.0)
    return (
        vectors * roots[..., None, :] @ vectors.mT,
        vectors * inverse[..., None, :] @ vectors.mT,
    )
