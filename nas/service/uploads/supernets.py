"""An uploaded supernet as a stock BERT checkpoint; this code runs confined.

Weights are safetensors and the rest is JSON, so nothing in an upload is ever run. Its configuration
may state what BERT's shape and labels need, and nothing that makes a library fetch or run code.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nas.service.uploads.archives import ArchiveLimits, unpack
from nas.service.uploads.convert import KEPT
from nas.service.uploads.model_files import (
    CONFIG,
    Labels,
    check_header,
    checked_config,
    checked_labels,
    read_object,
    write_config,
)
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError

WEIGHTS = "model.safetensors"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
"""Files of a tokenizer, which an archive may hold. They are not kept: the teacher has its own."""

NEEDS = ("supernet.loading", "supernet.model")
"""Imported before the process is confined: these libraries load others."""

_JSON_BYTES = 1_000_000

Size = Annotated[int, Field(ge=1, le=65_536)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Token = Annotated[int, Field(ge=0)] | None


class _Config(BaseModel):
    """What a supernet's ``config.json`` may state: what a stock BERT classifier is made from."""

    model_config = ConfigDict(extra="forbid", strict=True)

    architectures: tuple[Literal["BertForSequenceClassification"]]
    model_type: Literal["bert"]
    hidden_size: Annotated[int, Field(ge=1, le=8192)]
    num_hidden_layers: Annotated[int, Field(ge=1, le=96)]
    num_attention_heads: Annotated[int, Field(ge=1, le=256)]
    intermediate_size: Size
    vocab_size: Annotated[int, Field(ge=1, le=2_000_000)] = 30_522
    max_position_embeddings: Size = 512
    type_vocab_size: Annotated[int, Field(ge=1, le=64)] = 2
    hidden_act: Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh"] = "gelu"
    hidden_dropout_prob: Rate = 0.1
    attention_probs_dropout_prob: Rate = 0.1
    classifier_dropout: Rate | None = None
    initializer_range: Annotated[float, Field(gt=0, le=10)] = 0.02
    layer_norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-12
    id2label: Labels = None
    label2id: Annotated[dict[str, int], Field(min_length=1, max_length=10_000)] | None = None
    problem_type: Literal["single_label_classification", "regression"] | None = None
    pad_token_id: Token = 0
    bos_token_id: Token = None
    eos_token_id: Token = None
    add_cross_attention: Literal[False] = False
    is_decoder: Literal[False] = False
    tie_word_embeddings: bool = True
    use_cache: bool = True
    position_embedding_type: Literal["absolute"] = "absolute"
    dtype: Literal["float32"] = "float32"
    torch_dtype: Literal["float32"] = "float32"
    transformers_version: Annotated[str, Field(max_length=40)] | None = None
    gradient_checkpointing: bool = False


def check_supernet(upload: str, name: str, unpacked_bytes: int) -> dict[str, Any]:
    """Write ``kept/<name>/`` with ``config.json`` and ``model.safetensors``, and say what it is.

    Args:
        upload: a zip of the working directory.
        name: of the supernet.
        unpacked_bytes: that it may hold at most.

    Returns:
        ``architecture``, ``labels`` and ``parameters``, as the service's table keeps them.

    Raises:
        NasError: what is wrong with it, in one line.
    """
    given = Path("files")
    limits = ArchiveLimits(unpacked_bytes, files=2 + len(TOKENIZER))
    found = {
        path.name for path in unpack(Path(upload), given, (".json", ".safetensors", ".txt"), limits)
    }
    unknown = sorted(found - {CONFIG, WEIGHTS, *TOKENIZER})
    if unknown or not {CONFIG, WEIGHTS} <= found:
        raise NasError(
            f"a supernet is {CONFIG} and {WEIGHTS}, with {', '.join(TOKENIZER)} or without; "
            f"found {', '.join(sorted(found))}"
        )
    config = _read_config(given / CONFIG)
    architecture = Architecture.from_config(config)
    parameters = architecture.parameters(EncoderShape.from_config(config))
    names = _check_weights(given / WEIGHTS, parameters)
    kept = Path(KEPT) / name
    write_config(kept, config)
    (given / WEIGHTS).rename(kept / WEIGHTS)
    return {
        "architecture": architecture.to_dict(),
        "labels": _load(kept, names),
        "parameters": parameters,
    }


def _read_config(path: Path) -> dict[str, Any]:
    """What it states, checked."""
    config = checked_config(_Config, read_object(path, _JSON_BYTES))
    if config.hidden_size % config.num_attention_heads:
        raise NasError(
            f"{CONFIG}: hidden_size {config.hidden_size} is not a multiple of "
            f"num_attention_heads {config.num_attention_heads}"
        )
    names = checked_labels(config.id2label or {})
    if config.label2id not in (None, {name: index for index, name in enumerate(names)}):
        raise NasError(f"{CONFIG}: label2id is not the inverse of id2label")
    return config.model_dump(exclude_unset=True, mode="json")


def _check_weights(path: Path, parameters: int) -> set[str]:
    """The names of its tensors. None of their numbers is read.

    Raises:
        NasError: the header lies, a tensor is not in float32, or the number of parameters differs.
    """
    from safetensors import SafetensorError, safe_open

    check_header(path)
    try:
        with safe_open(path, framework="np") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - it is no mapping
            for name, tensor in slices.items():
                if tensor.get_dtype() != "F32":
                    raise NasError(f"{WEIGHTS}: {name[:80]!r} is {tensor.get_dtype()}, not F32")
            count = sum(math.prod(tensor.get_shape()) for tensor in slices.values())
    except SafetensorError as error:
        raise NasError(f"{WEIGHTS} is no sound safetensors file: {error}") from error
    if count != parameters:
        raise NasError(f"{WEIGHTS} has {count:,} parameters, {CONFIG} describes {parameters:,}")
    return set(slices)


def _load(folder: Path, names: set[str]) -> list[str]:
    """The labels of the supernet in ``folder``, whose file holds its weights and no other."""
    import torch
    from transformers import BertForSequenceClassification
    from transformers.utils.logging import disable_progress_bar

    from supernet.loading import load_whole
    from supernet.model import Supernet

    torch.set_num_threads(1)
    disable_progress_bar()  # whose lock would outlive this process
    model = load_whole(
        BertForSequenceClassification, folder, WEIGHTS, local_files_only=True, use_safetensors=True
    )
    for name in sorted(names ^ set(model.state_dict())):
        raise NasError(
            f"{WEIGHTS} does not fit {CONFIG}: {name[:80]!r} stands in one of them alone"
        )
    Supernet(model)
    labels: dict[int, str] = model.config.id2label
    return [str(labels[index]) for index in sorted(labels)]
