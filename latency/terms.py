"""Terms that a kernel's time grows with: arithmetic and memory traffic, known before timing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from supernet.batch import IntArray, matrix_entries

FloatArray = NDArray[np.float64]

STREAMED = frozenset(
    {
        "first_token_attention",
        "first_token_feed_forward",
        "first_token_factored_attention",
        "first_token_factored_feed_forward",
        "head",
    }
)
"""Kinds that read each weight for a single token, so that memory bounds them and not arithmetic.

In a factored attention, half of the weights are read for a single token. The other half, for keys
and values, is small.
"""

CACHES = 2.0 ** np.arange(-2, 8)
"""Cache sizes that are considered, from 0.25 to 128 MB."""

_LANES = (8, 16)  # floats of a vector register: AVX2, AVX-512


def kernel_terms(kind: str, shapes: IntArray) -> FloatArray:
    """The terms of a kind of kernel, (N, terms), none negative.

    Args:
        shapes: (N, 2 + D): batch size, sequence length, then the sizes of the kind
            (:data:`latency.kernels.SIZES`).

    - A product of matrices grows with tokens x inputs x outputs. With few tokens it grows with
      inputs x outputs, because the matrix must be read.
    - Runtimes compute each head separately and pad it to whole vector registers: a head of size 18
      costs as much as one of size 32.
    - Normalization, residual and activation grow with tokens x width, softmax with heads x
      sequence squared.
    - A factored matrix is two products with a narrow width between them.
    """
    values = shapes.astype(np.float64)
    batch, sequence = values[:, 0], values[:, 1]
    tokens, one = batch * sequence, np.ones(len(values))
    if kind == "call":
        return one[:, None]
    hidden = values[:, 2]
    if kind == "embedding":
        terms = [one, tokens * hidden]
    elif kind == "head":
        terms = [one, hidden**2, batch * hidden, batch * hidden**2]
    elif kind == "attention":
        heads, qkv = values[:, 3], values[:, 4]
        scores = batch * sequence**2
        terms = [one, tokens, tokens * hidden, tokens * heads, scores * heads, hidden * qkv]
        for width in (qkv, *_padded(heads, qkv)):
            terms += [tokens * width, tokens * hidden * width, scores * width]
    elif kind == "factored_attention":
        heads, qkv, weights = values[:, 3], values[:, 4], _factored(shapes, 4)
        scores = batch * sequence**2
        terms = [one, tokens, tokens * hidden, tokens * heads, scores * heads, weights]
        terms += [tokens * weights, tokens * weights / (hidden + qkv)]
        for width in (qkv, *_padded(heads, qkv)):
            terms += [tokens * width, scores * width]
    elif kind == "first_token_attention":
        heads, qkv = values[:, 3], values[:, 4]
        terms = [one, tokens * hidden, hidden * qkv, batch * hidden * qkv]
        terms += [tokens * hidden * heads, tokens * heads]
    elif kind == "first_token_factored_attention":
        # Keys and values are formed: with factored matrices, skipping them would save nothing.
        heads, qkv, weights = values[:, 3], values[:, 4], _factored(shapes, 4)
        terms = [one, tokens * hidden, tokens * heads, tokens * qkv, weights]
        terms += [tokens * weights, tokens * weights / (hidden + qkv), batch * weights]
    else:
        rows = batch if kind.startswith("first_token") else tokens
        intermediate = values[:, 3]
        terms = [one, rows * hidden, rows * intermediate]
        if "factored" in kind:
            weights = _factored(shapes, 3)
            terms += [rows * weights / (hidden + intermediate)]
        else:
            weights = hidden * intermediate
        terms += [weights, rows * weights]
    return np.stack(terms, axis=1)


def coordinates(kind: str, shapes: IntArray) -> FloatArray:
    """Coordinates of kernels of one kind, (N, C), in which near kernels take a similar time.

    They are the logarithms of all sizes, and for attention that of the padding of its heads.
    """
    columns = [np.log(shapes.astype(np.float64))]
    if kind.endswith("attention"):
        heads, qkv = shapes[:, 3].astype(np.float64), shapes[:, 4].astype(np.float64)
        columns.append(np.log(_padded(heads, qkv)[-1] / qkv)[:, None])
    return np.hstack(columns)


def kernel_megabytes(kind: str, shapes: IntArray) -> FloatArray:
    """Megabytes of float32 weights that a kernel reads, (N,)."""
    if kind == "call":
        return np.zeros(len(shapes))
    values = shapes.astype(np.float64)
    hidden = values[:, 2]
    if kind.endswith(("attention", "feed_forward")):
        products, column = (4, 4) if kind.endswith("attention") else (2, 3)
        whole = hidden * values[:, column]
        weights = products * (_factored(shapes, column) if "factored" in kind else whole)
    elif kind == "head":
        weights = hidden**2
    else:
        weights = values[:, 0] * values[:, 1] * hidden  # a row for each token
    return 4e-6 * weights


def missed(total_mb: FloatArray) -> FloatArray:
    """The share of a call's weights that each of :data:`CACHES` misses, (N, caches).

    Equal calls follow each other, so a call finds in a cache what the call before left there.
    """
    shares: FloatArray = np.maximum(0.0, 1 - CACHES / np.maximum(total_mb, 1e-9)[:, None])
    return shares


def traffic(streamed_mb: FloatArray, other_mb: FloatArray) -> FloatArray:
    """Megabytes that each cache misses, (N, 2 caches): of streamed kernels, then of others."""
    shares = missed(streamed_mb + other_mb)
    return np.hstack([streamed_mb[:, None] * shares, other_mb[:, None] * shares])


def traffic_ms(
    streamed_mb: FloatArray, other_mb: FloatArray, coefficients: FloatArray
) -> FloatArray:
    """Milliseconds that :func:`traffic` costs, (N,).

    Args:
        coefficients: milliseconds a megabyte, (2 caches,), most of them zero.
    """
    total = np.maximum(streamed_mb + other_mb, 1e-9)
    of_streamed, of_other = np.split(coefficients, 2)
    cost = np.zeros(len(total))
    for cache in np.flatnonzero(of_streamed + of_other):
        paid = of_streamed[cache] * streamed_mb + of_other[cache] * other_mb
        cost += paid * np.maximum(0.0, 1 - CACHES[cache] / total)
    return cost


def _factored(shapes: IntArray, column: int) -> FloatArray:
    """Entries of the factors of a (hidden, width) matrix, (N,); ``column`` holds the width."""
    return matrix_entries(shapes[:, 2], shapes[:, column], shapes[:, -1]).astype(np.float64)


def _padded(heads: FloatArray, qkv: FloatArray) -> list[FloatArray]:
    """The joint width of heads whose sizes are rounded up to whole vector registers."""
    return [heads * np.ceil(qkv / heads / lanes) * lanes for lanes in _LANES]
