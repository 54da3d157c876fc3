"""Neurons where they are worth most: an architecture whose layers have sizes of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supernet.architecture import Architecture

Floats = NDArray[np.float64]
Usage = Callable[[Sequence[Architecture]], Floats]
"""From N architectures to the share of the limits that each uses, (N,)."""


def spread(
    architecture: Architecture,
    sizes: Sequence[int],
    worth: ArrayLike,
    usage: Usage,
    limit: float,
) -> Architecture:
    """The intermediate sizes that are worth most in all within some usage.

    From the smallest, always that layer is made larger, to that size, which gains most for what it
    uses. The last layer often becomes the largest: where the first token alone is computed, its
    neurons cost next to nothing.

    Args:
        sizes: that a layer may have, ascending.
        worth: of each layer with each size, (layers, sizes), ascending in each layer.
        limit: of the usage, which the architecture itself keeps to.

    Returns:
        The architecture itself where no other sizes are worth more.
    """
    gains = np.asarray(worth, dtype=float)
    own = [sizes.index(layer.intermediate_size) for layer in architecture.layers]
    places = [0] * architecture.num_layers

    def total(chosen: Sequence[int]) -> float:
        return float(gains[range(len(chosen)), chosen].sum())

    def sized(chosen: Sequence[int]) -> Architecture:
        pairs = zip(architecture.layers, chosen, strict=True)
        layers = (replace(layer, intermediate_size=sizes[place]) for layer, place in pairs)
        return replace(architecture, layers=tuple(layers))

    (used,) = usage([sized(places)])
    while options := [
        [*places[:layer], place, *places[layer + 1 :]]
        for layer, now in enumerate(places)
        for place in range(now + 1, len(sizes))
    ]:
        needed = usage([sized(option) for option in options])
        gained = np.array([total(option) - total(places) for option in options])
        rates = np.where(needed <= limit, gained / np.maximum(needed - used, 1e-6), -1.0)
        best = int(np.argmax(rates))
        if rates[best] < 0:
            break
        places, used = options[best], needed[best]
    return sized(places) if total(places) > total(own) else architecture
