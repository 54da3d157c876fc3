"""Heads with fewer dimensions that attend and gather nearly as the wider ones do.

A student's heads may be narrower than its teacher's. What a head needs of its queries and keys are
their products alone, and of its values what its output makes of them: so the dimensions that are
left are not some of those there were, but the best combinations of them, by low-rank approximation
weighted by what the texts show (the theorem of Eckart and Young).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from supernet.architecture import Layer


class HeadMaps(NamedTuple):
    """From what wide heads have to what narrow ones have, in float64.

    Args:
        query, key, value: (heads, head size, wide head size)
        output: of what reads the heads, (heads, wide head size, head size)
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
        attention: of the wide layer, ``BertAttention``.
        num_heads: that it has.
        sizes: the narrow layer's.
        covariance, mean: of the states that the layer reads, (hidden, hidden) and (hidden,), in
            float64.
    """
    kept, size = sizes.num_heads, sizes.head_size

    def heads(linear: Any) -> tuple[Tensor, Tensor]:
        """Covariance (heads, head, head) and mean (heads, head) of what a linear puts out."""
        weight = linear.weight.double().unflatten(0, (num_heads, -1))[:kept]
        bias = linear.bias.double().unflatten(0, (num_heads, -1))[:kept]
        return weight @ covariance @ weight.mT, weight @ mean + bias

    # What is the same for all keys changes no attention, so keys count about their mean.
    spread, middle = heads(attention.self.query)
    queries, inverse = _roots(spread + middle[:, :, None] * middle[:, None])
    keys, _ = _roots(heads(attention.self.key)[0])
    left, found, _ = torch.linalg.svd(queries @ keys)
    left, scale = left[..., :size], found[..., None, :size].clamp(min=1e-12).sqrt()
    query = (inverse @ left * scale).mT
    key = (queries @ left / scale).mT

    # Attention sums to 1, so the mean of the values arrives whatever is attended to.
    values, inverse = _roots(heads(attention.self.value)[0])
    output = attention.output.dense.weight.double().unflatten(1, (num_heads, -1))[:, :kept]
    _, found, right = torch.linalg.svd(output.transpose(0, 1) @ values, full_matrices=False)
    right, scale = right[..., :size, :], found[..., :size, None].clamp(min=1e-12).sqrt()
    return HeadMaps(query, key, scale * (right @ inverse), (values @ right.mT) / scale.mT)


def _roots(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Root and inverse root of positive semidefinite matrices; 0 where they are (nearly) 0."""
    found, vectors = torch.linalg.eigh(squares)
    least = 1e-10 * found[..., -1:].clamp(min=1e-30)
    roots = found.clamp(min=0).sqrt()
    inverse = torch.where(found > least, 1 / roots.clamp(min=1e-30), 0.0)
    return (
        vectors * roots[..., None, :] @ vectors.mT,
        vectors * inverse[..., None, :] @ vectors.mT,
    )
