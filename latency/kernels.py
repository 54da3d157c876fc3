"""The kernels that an architecture executes, with their shapes, after the runtime's fusion.

A kernel is a maximal piece of the model whose time does not depend on its neighbours' shapes
(nn-Meter, Zhang et al., MobiSys 2021): a residual block of a transformer layer, the embedding,
the classification head, and the call itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from supernet.architecture import Architecture, Layer
from supernet.batch import ArchitectureBatch, IntArray
from supernet.errors import NasError

SIZES: Mapping[str, tuple[str, ...]] = {
    "call": (),
    "embedding": ("hidden_size",),
    "attention": ("hidden_size", "num_heads", "qkv_size"),
    "feed_forward": ("hidden_size", "intermediate_size"),
    "first_token_attention": ("hidden_size", "num_heads", "qkv_size"),
    "first_token_feed_forward": ("hidden_size", "intermediate_size"),
    "factored_attention": ("hidden_size", "num_heads", "qkv_size", "compression"),
    "factored_feed_forward": ("hidden_size", "intermediate_size", "compression"),
    "first_token_factored_attention": ("hidden_size", "num_heads", "qkv_size", "compression"),
    "first_token_factored_feed_forward": ("hidden_size", "intermediate_size", "compression"),
    "head": ("hidden_size",),
}
"""Kinds of kernels, and the sizes that determine the time of each.

- ``call``: one entry into the runtime that does nothing.
- ``attention``, ``feed_forward``: the two residual blocks of a layer, normalization included.
- ``first_token_...``: the same block for the first token's output only, which is all that a
  classifier reads of its last layer.
- ``..._factored_...``: the same block with factored matrices, each a sum of columns times rows
  (:class:`supernet.architecture.Layer`).
"""

STACKED = frozenset(kind for kind in SIZES if kind.endswith(("attention", "feed_forward")))
"""Kinds that a model has once for each layer. One measurement may hold several copies of them."""

_LAYER = ("num_heads", "qkv_size", "intermediate_size", "compression")

HIDDEN = "hidden"
"""Name of the graph input that carries the hidden states from the layers before."""

OUTPUT = "logits"
"""Name of a classifier's graph output."""


@dataclass(frozen=True, order=True)
class Kernel:
    """One kernel of a model.

    Args:
        kind: a key of :data:`SIZES`.
        sizes: values of the sizes that :data:`SIZES` names for this kind, in that order.

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

    @property
    def layer(self) -> Layer:
        """A layer that contains this kernel. Sizes that the kernel lacks are 1."""
        sizes = dict(zip(SIZES[self.kind], self.sizes, strict=True))
        return Layer(*(sizes.get(field, 1) for field in _LAYER))

    def __str__(self) -> str:
        return " ".join([self.kind, *map(str, self.sizes)])


def lower(batch: ArchitectureBatch, *, first_token_last_layer: bool) -> dict[str, IntArray]:
    """The kernels of N architectures of up to L layers.

    Args:
        first_token_last_layer: whether the runtime computes the last layer for the first token
            only.

    Returns:
        The sizes of each kind of kernel that may occur, (N, K, D). K is the largest number of
        kernels of that kind in one model; D is the number of sizes in :data:`SIZES`. Absent
        kernels are zeros. ``call`` is not included: it has no sizes, and every model has one.
    """
    batch = batch.expanded()
    depth = batch.qkv_size.shape[1]
    layer = np.arange(depth)
    present = layer < batch.num_layers[:, None]  # (N, L)
    hidden = np.broadcast_to(batch.hidden_size[:, None], present.shape)
    attention = np.stack([hidden, batch.num_heads, batch.qkv_size], axis=-1)  # (N, L, 3)
    feed_forward = np.stack([hidden, batch.intermediate_size], axis=-1)  # (N, L, 2)
    whole = (batch.compression == 1)[..., None]
    blocks = {"attention": attention * whole, "feed_forward": feed_forward * whole}
    if batch.is_factored:
        compression = batch.compression[..., None]
        for kind, sizes in (("attention", attention), ("feed_forward", feed_forward)):
            factored = np.concatenate([sizes, compression], axis=-1)
            blocks[f"factored_{kind}"] = factored * (compression > 1)
    ends = batch.hidden_size[:, None, None]  # (N, 1, 1)
    kernels = {"embedding": ends, "head": ends}
    if not first_token_last_layer:
        return kernels | {kind: sizes * present[..., None] for kind, sizes in blocks.items()}
    last = (batch.num_layers - 1)[:, None, None]
    inner = (layer[:-1] < batch.num_layers[:, None] - 1)[..., None]  # (N, L - 1, 1)
    for kind, sizes in blocks.items():
        kernels[f"first_token_{kind}"] = np.take_along_axis(sizes, last, axis=1)
        if depth > 1:
            kernels[kind] = sizes[:, :-1] * inner
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
