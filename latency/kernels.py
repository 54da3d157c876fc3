"""What an architecture executes: kernels with their shapes, as a runtime runs them after fusion.

A kernel is a maximal piece of the model whose time does not depend on its neighbours' shapes
(nn-Meter, Zhang et al., MobiSys 2021): a residual block of a transformer layer, the embedding,
the classification head, and the call itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch, IntArray
from supernet.errors import NasError

SIZES: Mapping[str, tuple[str, ...]] = {
    "call": (),
    "embedding": ("hidden_size",),
    "attention": ("hidden_size", "num_heads", "qkv_size"),
    "feed_forward": ("hidden_size", "intermediate_size"),
    "first_token_attention": ("hidden_size", "num_heads", "qkv_size"),
    "first_token_feed_forward": ("hidden_size", "intermediate_size"),
    "head": ("hidden_size",),
}
"""Kinds of kernels, and the sizes that the time of each depends on.

``call`` is one entry into the runtime that does nothing. ``attention`` and ``feed_forward`` are
the two residual blocks of a layer with their normalizations; the ``first_token_`` kinds compute
the first token's output alone, which is all that a classifier reads of its last layer.
"""

STACKED = frozenset(kind for kind in SIZES if kind.endswith(("attention", "feed_forward")))
"""Kinds of which a model has one for each layer, so that one measurement may hold several."""

HIDDEN = "hidden"
"""The input, in a kernel's graph, of what the layers before pass on."""


@dataclass(frozen=True, order=True)
class Kernel:
    """One kernel.

    Args:
        kind: a key of :data:`SIZES`.
        sizes: values of the sizes named there, in that order.

    Raises:
        NasError: an unknown kind, or the wrong number of sizes.
    """

    kind: str
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.kind not in SIZES:
            raise NasError(f"kernel kind must be one of {', '.join(SIZES)}, not {self.kind!r}")
        if len(self.sizes) != len(SIZES[self.kind]):
            raise NasError(f"kernel {self.kind} takes {SIZES[self.kind]}, not {self.sizes}")

    def __getitem__(self, name: str) -> int:
        """The size called ``name``, such as ``"hidden_size"``."""
        return self.sizes[SIZES[self.kind].index(name)]

    def __str__(self) -> str:
        return " ".join([self.kind, *map(str, self.sizes)])


def lower(batch: ArchitectureBatch, *, first_token_last_layer: bool) -> dict[str, IntArray]:
    """The kernels of N architectures of up to L layers.

    Args:
        first_token_last_layer: whether the runtime computes the last layer for the first token
            alone.

    Returns:
        For each kind that occurs, sizes of shape (N, K, D): K the most kernels of that kind in
        a model, D the sizes named in :data:`SIZES`. Absent kernels are zeros. ``call``, which
        has no sizes, is left out: every model has one.
    """
    batch = batch.expanded()
    depth = batch.qkv_size.shape[1]
    layer = np.arange(depth)
    present = layer < batch.num_layers[:, None]  # (N, L)
    hidden = np.broadcast_to(batch.hidden_size[:, None], present.shape)
    attention = np.stack([hidden, batch.num_heads, batch.qkv_size], axis=-1)  # (N, L, 3)
    feed_forward = np.stack([hidden, batch.intermediate_size], axis=-1)  # (N, L, 2)
    ends = batch.hidden_size[:, None, None]  # (N, 1, 1)
    kernels = {"embedding": ends, "head": ends}
    if not first_token_last_layer:
        kernels["attention"] = attention * present[..., None]
        kernels["feed_forward"] = feed_forward * present[..., None]
        return kernels
    last = (batch.num_layers - 1)[:, None, None]
    kernels["first_token_attention"] = np.take_along_axis(attention, last, axis=1)
    kernels["first_token_feed_forward"] = np.take_along_axis(feed_forward, last, axis=1)
    if depth > 1:
        inner = (layer[:-1] < batch.num_layers[:, None] - 1)[..., None]  # (N, L - 1, 1)
        kernels["attention"] = attention[:, :-1] * inner
        kernels["feed_forward"] = feed_forward[:, :-1] * inner
    return kernels


def kernels_of(architecture: Architecture, *, first_token_last_layer: bool) -> list[Kernel]:
    """The kernels of one architecture, its call included."""
    batch = ArchitectureBatch.of([architecture])
    lowered = lower(batch, first_token_last_layer=first_token_last_layer)
    return [Kernel("call", ())] + [
        Kernel(kind, tuple(map(int, sizes)))
        for kind, table in lowered.items()
        for sizes in table[0]
        if sizes.all()
    ]
