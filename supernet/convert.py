"""Converts BERT-like checkpoints to stock BERT: the same function, with BERT's weight names.

RoBERTa differs from BERT in where its positions start; DistilBERT and ELECTRA in names and in
their classification heads. Only encoders whose computation BERT's equals are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from supernet.errors import NasError, error_line

Weights = dict[str, Tensor]

_LEARNT_BY = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "initializer_range",
)
"""Keys of a configuration that matter in training only."""

ROBERTA_LIKE = ("roberta", "xlm-roberta", "camembert")
ACCEPTED = ("bert", *ROBERTA_LIKE, "distilbert", "electra")
"""Model types whose encoders BERT can hold."""

HEAD_CONVERTS = ("bert", *ROBERTA_LIKE)
"""Model types whose classification head is BERT's pooler and classifier under other names."""


def as_bert(model: PreTrainedModel) -> BertForSequenceClassification:
    """A stock BERT that computes the same function as ``model``.

    The head comes along for the types of :data:`HEAD_CONVERTS`; it is new for the others.

    Args:
        model: a sequence classifier of one of the :data:`ACCEPTED` types.

    Raises:
        NasError: another type, or a variant of one that BERT cannot hold.
    """
    config = model.config
    try:
        converted = BertForSequenceClassification(bert_config(config))
    except (ValueError, RuntimeError) as error:
        raise _no_bert(error) from error
    rename = _RENAMES[config.model_type]
    weights = {new: value for name, value in model.state_dict().items() if (new := rename(name))}
    own = converted.state_dict()
    positions = "bert.embeddings.position_embeddings.weight"
    if config.model_type in ROBERTA_LIKE:  # positions 0 to padding_idx are never a token's
        weights[positions] = weights[positions][config.pad_token_id + 1 :]
    if config.model_type == "distilbert":  # no segments: all add nothing
        weights["bert.embeddings.token_type_embeddings.weight"] = torch.zeros(2, config.dim)
    own.update({name: weights[name] for name in own if name in weights})
    converted.load_state_dict(own)
    return converted.eval()


def check_convertible(config: PretrainedConfig) -> None:
    """Refuse a model that BERT cannot hold.

    Raises:
        NasError: the model type, or the variant of it, is not supported.
    """
    if config.model_type not in ACCEPTED:
        raise NasError(
            f"teacher of model type {config.model_type!r} is not BERT-like; "
            f"accepted are {', '.join(ACCEPTED)}"
        )
    if getattr(config, "is_decoder", False):
        raise NasError("teacher is a decoder (is_decoder: true); an encoder is needed")
    if getattr(config, "add_cross_attention", False):
        raise NasError("teacher attends to another model (add_cross_attention: true)")
    if config.model_type in ROBERTA_LIKE and config.pad_token_id is None:
        raise NasError(
            "teacher has no pad_token_id in config.json, behind which a RoBERTa's positions begin"
        )
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    if positions != "absolute":
        raise NasError(
            f"teacher has position embeddings of type {positions!r}; absolute ones are needed"
        )
    if config.model_type == "electra" and config.embedding_size != config.hidden_size:
        raise NasError(
            f"teacher's embedding_size {config.embedding_size} must equal its "
            f"hidden_size {config.hidden_size}"
        )


def bert_config(config: PretrainedConfig) -> BertConfig:
    """The configuration of the stock BERT that :func:`as_bert` makes.

    It holds what BERT computes and learns by, and nothing else that the file says.

    Raises:
        NasError: as :func:`check_convertible`.
    """
    check_convertible(config)
    distil = config.model_type == "distilbert"
    offset = config.pad_token_id + 1 if config.model_type in ROBERTA_LIKE else 0
    own = dict(
        vocab_size=config.vocab_size,
        hidden_size=config.dim if distil else config.hidden_size,
        num_hidden_layers=config.n_layers if distil else config.num_hidden_layers,
        num_attention_heads=config.n_heads if distil else config.num_attention_heads,
        intermediate_size=config.hidden_dim if distil else config.intermediate_size,
        hidden_act=config.activation if distil else config.hidden_act,
        max_position_embeddings=config.max_position_embeddings - offset,
        type_vocab_size=2 if distil else config.type_vocab_size,
        layer_norm_eps=1e-12 if distil else config.layer_norm_eps,
        pad_token_id=config.pad_token_id,
        id2label=config.id2label,
        label2id=config.label2id,
        problem_type=config.problem_type,
        **{name: getattr(config, name) for name in _LEARNT_BY if hasattr(config, name)},
    )
    try:
        return BertConfig(**own)
    except Exception as error:  # of many kinds, from two libraries
        raise _no_bert(error) from error


def _no_bert(error: Exception) -> NasError:
    return NasError(f"teacher's config.json describes no BERT: {error_line(error)}")


def _rename_roberta(name: str) -> str | None:
    for old, new in (
        ("classifier.dense.", "bert.pooler.dense."),
        ("classifier.out_proj.", "classifier."),
    ):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return re.sub(r"^roberta\.", "bert.", name)


def _rename_electra(name: str) -> str | None:
    return re.sub(r"^electra\.", "bert.", name) if name.startswith("electra.") else None


_DISTILBERT_NAMES: Mapping[str, str] = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}


def _rename_distilbert(name: str) -> str | None:
    if name.startswith("distilbert.embeddings."):
        return name.replace("distilbert.", "bert.", 1)
    match = re.fullmatch(r"distilbert\.transformer\.layer\.(\d+)\.(.+)\.(weight|bias)", name)
    if match is None:
        return None
    index, module, kind = match.groups()
    return f"bert.encoder.layer.{index}.{_DISTILBERT_NAMES[module]}.{kind}"


_RENAMES: Mapping[str, Callable[[str], str | None]] = {
    "bert": lambda name: name,
    **dict.fromkeys(ROBERTA_LIKE, _rename_roberta),
    "electra": _rename_electra,
    "distilbert": _rename_distilbert,
}
