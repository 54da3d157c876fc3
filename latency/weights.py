"""The weights of a BERT classifier as NumPy arrays, named as in transformers' state dict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError

FloatArray = NDArray[np.float32]
Weights = Mapping[str, FloatArray]

_DEVIATION = 0.02  # BERT's initializer_range


def layer_prefix(index: int) -> str:
    """``bert.encoder.layer.3.``, for example."""
    return f"bert.encoder.layer.{index}."


def weight_shapes(architecture: Architecture, shape: EncoderShape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of ``transformers.BertForSequenceClassification``.

    Where ``qkv_size`` differs from the hidden size, query, key and value are
    (qkv_size, hidden_size) and the attention's output is (hidden_size, qkv_size).
    """
    hidden = architecture.hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (shape.vocab_size, hidden),
        "bert.embeddings.position_embeddings.weight": (shape.max_positions, hidden),
        "bert.embeddings.token_type_embeddings.weight": (shape.type_vocab_size, hidden),
        **_normalization("bert.embeddings.", hidden),
    }
    for index, layer in enumerate(architecture.layers):
        prefix = layer_prefix(index)
        for projection in ("query", "key", "value"):
            shapes |= _linear(f"{prefix}attention.self.{projection}", layer.qkv_size, hidden)
        shapes |= _linear(f"{prefix}attention.output.dense", hidden, layer.qkv_size)
        shapes |= _normalization(f"{prefix}attention.output.", hidden)
        shapes |= _linear(f"{prefix}intermediate.dense", layer.intermediate_size, hidden)
        shapes |= _linear(f"{prefix}output.dense", hidden, layer.intermediate_size)
        shapes |= _normalization(f"{prefix}output.", hidden)
    shapes |= _linear("bert.pooler.dense", hidden, hidden)
    shapes |= _linear("classifier", shape.num_labels, hidden)
    return shapes


def random_weights(
    architecture: Architecture, shape: EncoderShape, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Random weights with BERT's initial distribution; latencies do not depend on their values."""
    weights = {}
    for name, size in weight_shapes(architecture, shape).items():
        values = rng.standard_normal(size, dtype=np.float32) * np.float32(_DEVIATION)
        if name.endswith("LayerNorm.weight"):
            values += np.float32(1)
        weights[name] = values
    for module, factors in architecture.factors.items():
        del weights[f"bert.{module}.weight"]
        for side, size in (("left", factors.left), ("right", factors.right)):
            values = rng.standard_normal((factors.terms, *size), dtype=np.float32)
            weights[f"bert.{module}.{side}"] = values * np.float32(_DEVIATION**0.5)
    return weights


def factors_of(weights: Weights, name: str) -> tuple[FloatArray, FloatArray] | None:
    """The factors of a weight: A (terms, m1, n1) and B (terms, m2, n2); None if it is whole.

    Args:
        name: name of the weight. Its factors are named ``...left`` and ``...right`` instead.
    """
    stem = name.removesuffix("weight")
    if f"{stem}left" not in weights or f"{stem}right" not in weights:
        return None
    return weights[f"{stem}left"], weights[f"{stem}right"]


def checked_weights(weights: Weights, architecture: Architecture, shape: EncoderShape) -> Weights:
    """``weights`` if they are complete and of the right shapes; further entries are ignored.

    Raises:
        NasError: a weight missing, or of another shape.
    """
    for name, expected in weight_shapes(architecture, shape).items():
        factors = factors_of(weights, name)
        if factors is not None:
            (_, m1, n1), (_, m2, n2) = (factor.shape for factor in factors)
            if (m1 * m2, n1 * n2) != expected:
                raise NasError(
                    f"weight {name} is a Kronecker product of shape {(m1 * m2, n1 * n2)}, "
                    f"but architecture {architecture} needs {expected}"
                )
            continue
        if name not in weights:
            raise NasError(f"weight {name} is missing; architecture {architecture} needs it")
        if weights[name].shape != expected:
            raise NasError(
                f"weight {name} has shape {weights[name].shape}, "
                f"but architecture {architecture} needs {expected}"
            )
    return weights


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _normalization(prefix: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}LayerNorm.weight": (size,), f"{prefix}LayerNorm.bias": (size,)}
