"""BERT-of-Theseus (Xu et al., EMNLP 2020): training replaces a model's modules one by one.

A predecessor of N layers has M modules of N/M layers each; its successor has one layer for each
module. In every step, chance decides for each module whether the successor's layer runs or the
predecessor's module. So the successor's layers learn to work among the predecessor's with the
task's loss only. Both must have the same hidden size. The successor's layers may be compressed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from supernet.errors import NasError


def check_replaceable(predecessor: PreTrainedModel, successor: PreTrainedModel) -> None:
    """Refuse different hidden sizes, and a depth that does not divide the predecessor's.

    Raises:
        NasError: naming both.
    """
    widths = predecessor.config.hidden_size, successor.config.hidden_size
    if widths[0] != widths[1]:
        raise NasError(
            f"BERT-of-Theseus: the student's hidden size must be the teacher's {widths[0]}, "
            f"not {widths[1]}"
        )
    depths = predecessor.config.num_hidden_layers, successor.config.num_hidden_layers
    if depths[0] % depths[1]:
        fitting = [n for n in range(1, depths[0] + 1) if depths[0] % n == 0]
        raise NasError(
            f"BERT-of-Theseus: the student's layers must divide the teacher's {depths[0]} "
            f"({', '.join(map(str, fitting))}), not {depths[1]}"
        )


def assembled(
    predecessor: Sequence[nn.Module], successor: Sequence[nn.Module], replaced: Sequence[bool]
) -> list[nn.Module]:
    """The layers of one step.

    Args:
        replaced: for each module, True if the successor's layer runs.
    """
    size = len(predecessor) // len(successor)
    layers: list[nn.Module] = []
    for number, (layer, is_replaced) in enumerate(zip(successor, replaced, strict=True)):
        layers += [layer] if is_replaced else predecessor[number * size : (number + 1) * size]
    return layers


def drawn(modules: int, probability: float, rng: np.random.Generator) -> list[bool]:
    """Draw for each module independently whether it is replaced."""
    return (rng.random(modules) < probability).tolist()
