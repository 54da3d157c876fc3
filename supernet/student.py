"""The stand-alone model of an architecture, which ``Supernet.extract`` returns."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from supernet.architecture import Architecture, EncoderShape
from supernet.modeling_tailorbert import (
    TailorBertConfig,
    TailorBertForSequenceClassification,
    TailorBertModel,
)

AutoConfig.register(TailorBertConfig.model_type, TailorBertConfig)
AutoModel.register(TailorBertConfig, TailorBertModel)
AutoModelForSequenceClassification.register(TailorBertConfig, TailorBertForSequenceClassification)

CARRIED_SETTINGS = (
    "layer_norm_eps",
    "initializer_range",
    "pad_token_id",
    "id2label",
    "label2id",
    "problem_type",
)
"""Keys that a student takes over from its teacher's configuration, besides its shape."""


def new_student(
    architecture: Architecture,
    shape: EncoderShape = EncoderShape(),
    settings: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """A randomly initialised classifier of the given architecture.

    Args:
        shape: vocabulary, positions, segments, labels and activation.
        settings: further configuration keys, such as those of :data:`CARRIED_SETTINGS`.

    Returns:
        ``BertForSequenceClassification`` if the architecture is native, else
        ``TailorBertForSequenceClassification``. Both are without dropout and in training mode.
    """
    general: dict[str, Any] = {
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_positions,
        "type_vocab_size": shape.type_vocab_size,
        "num_labels": shape.num_labels,
        "hidden_size": architecture.hidden_size,
        "hidden_act": shape.hidden_act,
        "hidden_dropout_prob": 0.0,
    } | dict(settings or {})
    if "id2label" in general:
        del general["num_labels"]
    if not architecture.is_native:
        layers = architecture.whole.to_dict()["layers"]
        factors = {name: one.sizes for name, one in architecture.factors.items()}
        return TailorBertForSequenceClassification(
            TailorBertConfig(layers=layers, factors=factors or None, **general)
        )
    layer = architecture.layers[0]
    return BertForSequenceClassification(
        BertConfig(
            num_hidden_layers=architecture.num_layers,
            num_attention_heads=layer.num_heads,
            intermediate_size=layer.intermediate_size,
            attention_probs_dropout_prob=0.0,
            **general,
        )
    )


def carried_settings(config: PretrainedConfig) -> dict[str, Any]:
    """The values of :data:`CARRIED_SETTINGS` in a teacher's configuration."""
    return {key: getattr(config, key) for key in CARRIED_SETTINGS}


def tailored(config: PretrainedConfig) -> TailorBertConfig:
    """The configuration of a TailorBERT of the same architecture, shape and settings."""
    if isinstance(config, TailorBertConfig):
        return copy.deepcopy(config)
    shape = shape_of(config)
    return TailorBertConfig(
        layers=architecture_of(config).to_dict()["layers"],
        hidden_size=config.hidden_size,
        vocab_size=shape.vocab_size,
        max_position_embeddings=shape.max_positions,
        type_vocab_size=shape.type_vocab_size,
        hidden_act=shape.hidden_act,
        hidden_dropout_prob=0.0,
        **carried_settings(config),
    )


def architecture_of(config: PretrainedConfig) -> Architecture:
    """The architecture that a BERT or TailorBERT configuration describes.

    Raises:
        NasError: another model type.
    """
    return Architecture.from_config(config.to_dict())


def shape_of(config: PretrainedConfig) -> EncoderShape:
    """The shape that a BERT or TailorBERT configuration describes."""
    return EncoderShape(
        config.vocab_size,
        config.max_position_embeddings,
        config.type_vocab_size,
        config.num_labels or 1,
        config.hidden_act,
    )
