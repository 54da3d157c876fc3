"""An uploaded teacher as a folder that ``nas search --teacher`` takes; this code runs confined.

Weights are safetensors and the rest is JSON or plain text, so nothing in an upload is ever run. The
configuration is kept with those keys alone that say what the model computes and what its head
predicts. The tokenizer is written anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model

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
from supernet.errors import NasError

INDEX = "model.safetensors.index.json"
FILES = (
    CONFIG, INDEX, "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
"""What an upload may hold besides weights."""

WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
"""Names of its files of weights."""

NEEDS = ("nas.models.teacher",)
"""Imported before the process is confined: these libraries load others."""

SUFFIXES = (".json", ".safetensors", ".txt")

_MOST_FILES = 64
_JSON_BYTES = 64_000_000
_SIZES = {
    "hidden_size": 8192, "num_hidden_layers": 96, "num_attention_heads": 256,
    "intermediate_size": 65_536, "vocab_size": 2_000_000, "max_position_embeddings": 65_536,
    "type_vocab_size": 64, "dim": 8192, "n_layers": 96, "n_heads": 256, "hidden_dim": 65_536,
    "embedding_size": 8192,
}  # fmt: skip
"""Keys that are whole numbers, and how large each may be."""
_NUMBERS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "dropout",
    "attention_dropout", "seq_classif_dropout", "qa_dropout", "initializer_range",
    "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
_WORDS = (
    "model_type", "hidden_act", "activation", "position_embedding_type", "problem_type",
    "is_decoder", "sinusoidal_pos_embds", "summary_type", "summary_activation",
    "summary_use_proj", "summary_last_dropout",
)  # fmt: skip
_FIELDS: dict[str, Any] = {
    "architectures": (list[Annotated[str, Field(pattern=r"^\w{1,80}$")]] | None, None),
    "id2label": (Labels, None),
    **{key: (Annotated[int, Field(ge=1, le=most)] | None, None) for key, most in _SIZES.items()},
    **dict.fromkeys(_NUMBERS, (int | float | None, None)),
    **dict.fromkeys(_WORDS, (bool | Annotated[str, Field(max_length=60)] | None, None)),
}
_Config = create_model("_Config", __config__=ConfigDict(extra="ignore", strict=True), **_FIELDS)
"""What is kept of a teacher's ``config.json``; other keys are passed over."""


def check_teacher(upload: str, name: str, unpacked_bytes: int) -> dict[str, Any]:
    """Write ``kept/<name>/``, a folder with configuration, weights and tokenizer; say what it is.

    Args:
        upload: a zip of the working directory.
        name: of the teacher.
        unpacked_bytes: that it may hold at most.

    Returns:
        ``model_type``, ``layers``, ``hidden_size``, ``parameters``, and ``labels`` of its head,
        None where it has none that can be used, as the service's table keeps them.

    Raises:
        NasError: what is wrong with it, in one line.
    """
    given = Path("files")
    limits = ArchiveLimits(unpacked_bytes, files=_MOST_FILES)
    found = {path.name for path in unpack(Path(upload), given, SUFFIXES, limits)}
    weights = sorted(one for one in found if WEIGHTS.fullmatch(one))
    unknown = sorted(found - {*FILES, *weights})
    if unknown or CONFIG not in found or not weights:
        raise NasError(
            f"a teacher is {CONFIG}, model.safetensors and the files of its tokenizer; found "
            f"{', '.join(sorted(found)[:12])}"
        )
    config = _read_config(given / CONFIG)
    kept = Path(KEPT) / name
    write_config(kept, config)
    for one in weights:
        check_header(given / one)
        (given / one).rename(kept / one)
    if INDEX in found:
        places = read_object(given / INDEX, _JSON_BYTES).get("weight_map")
        if not isinstance(places, dict) or not set(places.values()) <= set(weights):
            raise NasError(f"{INDEX} names files of weights that were not sent")
        (given / INDEX).rename(kept / INDEX)
    return _load(given, kept)


def _read_config(path: Path) -> dict[str, Any]:
    """What it states that matters, checked.

    Raises:
        NasError: remote code, a size out of range, or a value of another type.
    """
    value = read_object(path, _JSON_BYTES)
    if "auto_map" in value:
        raise NasError(f"{CONFIG}: auto_map names code of the model's own, which is never run")
    kept: dict[str, Any] = checked_config(_Config, value).model_dump(exclude_none=True)
    if "id2label" in kept:
        names = checked_labels(kept["id2label"])
        kept["id2label"] = {str(index): name for index, name in enumerate(names)}
        kept["label2id"] = {name: index for index, name in enumerate(names)}
    return {"architectures": [], **kept}


def _load(given: Path, kept: Path) -> dict[str, Any]:
    """Load all of it as a search does, write its tokenizer to ``kept``, and say what it is."""
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils.logging import disable_progress_bar

    from nas.data.tokenization import load_tokenizer
    from nas.models.teacher import has_head
    from nas.tasks.labels import head_of
    from supernet.convert import bert_config, check_convertible
    from supernet.loading import load_config, load_whole

    torch.set_num_threads(1)
    disable_progress_bar()  # whose lock would outlive this process
    config = load_config(kept, "teacher", local_files_only=True)
    check_convertible(config)
    ready = has_head(config)
    model = load_whole(
        AutoModelForSequenceClassification, kept, "teacher", new_head=not ready,
        local_files_only=True, use_safetensors=True,
    )  # fmt: skip
    tokenizer = load_tokenizer(given, "teacher", local_files_only=True)
    if not tokenizer.is_fast:
        raise NasError("its tokenizer has no fast form: save it with a tokenizer.json")
    tokenizer.save_pretrained(kept)
    head = head_of(config) if ready else None
    names = () if head is None else head.names
    outline = bert_config(config)
    return {
        "model_type": config.model_type,
        "layers": outline.num_hidden_layers,
        "hidden_size": outline.hidden_size,
        "parameters": model.num_parameters(),
        "labels": list(names or map(str, config.id2label.values())) if ready else None,
    }
