"""An uploaded supernet as a stock BERT checkpoint; this runs confined.

Weights are safetensors and the rest is JSON, so nothing in it is ever run. A configuration states
what BERT's shape and labels need, and nothing that has a library fetch or run code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas.service.plain_text import check_text
from nas.service.uploads.archives import ArchiveLimits, unpack
from nas.service.uploads.convert import KEPT
from nas.service.uploads.strict_json import parse_json
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
"""Files of a tokenizer, which may lie beside a supernet and are not kept: its teacher has one."""

NEEDS = ("supernet.model",)
"""Loaded before this is confined: its libraries open others."""

_JSON_BYTES = 1_000_000
_HEADER_BYTES = 4_000_000

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
    id2label: Annotated[dict[str, str], Field(min_length=1, max_length=10_000)] | None = None
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
    _check_weights(given / WEIGHTS, parameters)
    kept = Path(KEPT) / name
    kept.mkdir(parents=True)
    (kept / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (given / WEIGHTS).rename(kept / WEIGHTS)
    labels = _load(kept)
    return {
        "architecture": architecture.to_dict(),
        "labels": labels,
        "parameters": parameters,
    }


def _read_config(path: Path) -> dict[str, Any]:
    """What it states, checked."""
    if path.stat().st_size > _JSON_BYTES:
        raise NasError(f"{CONFIG} has more than {_JSON_BYTES:,} bytes")
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
        config = _Config.model_validate_json(json.dumps(value))
    except (NasError, UnicodeDecodeError) as error:
        raise NasError(f"{CONFIG}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])[:60] or CONFIG
        raise NasError(f"{CONFIG}: {key}: {first['msg']}") from error
    if config.hidden_size % config.num_attention_heads:
        raise NasError(
            f"{CONFIG}: hidden_size {config.hidden_size} is not a multiple of "
            f"num_attention_heads {config.num_attention_heads}"
        )
    _check_labels(config)
    return config.model_dump(exclude_unset=True, mode="json")


def _check_labels(config: _Config) -> None:
    if config.id2label is None:
        if config.label2id is not None:
            raise NasError(f"{CONFIG}: label2id needs id2label")
        return
    names = list(config.id2label.values())
    if set(config.id2label) != {str(index) for index in range(len(names))}:
        raise NasError(f"{CONFIG}: id2label must number the labels from 0 to {len(names) - 1}")
    if len(set(names)) < len(names):
        raise NasError(f"{CONFIG}: id2label has a label twice")
    mirrored = {name: int(index) for index, name in config.id2label.items()}
    if config.label2id is not None and config.label2id != mirrored:
        raise NasError(f"{CONFIG}: label2id is not the inverse of id2label")
    for name in names:
        check_text(f"{CONFIG}: label", name, most=200)


def check_header(path: Path) -> None:
    """Refuse a file of weights whose header lies about its own size.

    Raises:
        NasError: it is larger than any model's.
    """
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > _HEADER_BYTES:
        raise NasError(f"{path.name} states a header of {header:,} bytes")


def _check_weights(path: Path, parameters: int) -> None:
    """Refuse a header that lies, and weights of another size, before any are read."""
    from safetensors import SafetensorError, safe_open

    check_header(path)
    count = 0
    try:
        with safe_open(path, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                tensor = tensors.get_slice(name)
                if tensor.get_dtype() != "F32":
                    raise NasError(f"{WEIGHTS}: {name[:80]!r} is {tensor.get_dtype()}, not F32")
                size = 1
                for dimension in tensor.get_shape():
                    size *= dimension
                count += size
    except SafetensorError as error:
        raise NasError(f"{WEIGHTS} is no sound safetensors file: {error}") from error
    if count != parameters:
        raise NasError(f"{WEIGHTS} has {count:,} parameters, {CONFIG} describes {parameters:,}")


def _load(folder: Path) -> list[str]:
    """The labels of the supernet in ``folder``, which holds all its weights and no other."""
    import torch
    from transformers import BertForSequenceClassification
    from transformers.utils.logging import disable_progress_bar

    from supernet.model import Supernet

    torch.set_num_threads(1)
    disable_progress_bar()  # whose lock would outlive this process
    try:
        loaded: Any = BertForSequenceClassification.from_pretrained(
            folder, output_loading_info=True, local_files_only=True, use_safetensors=True
        )
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise NasError(f"{WEIGHTS} does not fit {CONFIG}: {error}") from error
    weights, report = loaded
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        for key in report[kind]:
            raise NasError(f"{WEIGHTS} does not fit {CONFIG}: {kind[:-5]} {str(key)[:80]}")
    supernet = Supernet(weights)
    for name, tensor in supernet.weights.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise NasError(f"{WEIGHTS}: {name} holds numbers that are not finite")
    names: dict[int, str] = weights.config.id2label
    return [str(names[index]) for index in sorted(names)]
