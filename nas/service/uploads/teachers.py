"""An uploaded teacher as a folder that ``nas search --teacher`` takes; this runs confined.

Weights are safetensors and the rest is JSON or plain text, so nothing in it is ever run. Of its
configuration those keys are kept that say how its function is computed and what its head predicts;
its tokenizer is written anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nas.service.plain_text import check_text
from nas.service.uploads.archives import ArchiveLimits, unpack
from nas.service.uploads.convert import KEPT
from nas.service.uploads.strict_json import parse_json
from nas.service.uploads.supernets import CONFIG, check_header
from supernet.errors import NasError, shown

FILES = (
    CONFIG, "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
"""What an upload may hold besides weights."""

WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
"""Names of its files of weights."""

NEEDS = ("nas.models.teacher",)
"""Loaded before this is confined: its libraries open others."""

SUFFIXES = (".json", ".safetensors", ".txt")

_MOST_FILES = 64
_JSON_BYTES = 64_000_000
_MOST = {
    "hidden_size": 8192, "num_hidden_layers": 96, "num_attention_heads": 256,
    "intermediate_size": 65_536, "vocab_size": 2_000_000, "max_position_embeddings": 65_536,
    "type_vocab_size": 64, "dim": 8192, "n_layers": 96, "n_heads": 256, "hidden_dim": 65_536,
    "embedding_size": 8192,
}  # fmt: skip
"""Sizes, and how large each may be."""
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
_CLASSES = 10_000


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
    kept.mkdir(parents=True)
    (kept / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for one in weights:
        check_header(given / one)
        (given / one).rename(kept / one)
    index = "model.safetensors.index.json"
    if index in found:
        _check_index(given / index, weights)
        (given / index).rename(kept / index)
    return _load(given, kept)


def _read_config(path: Path) -> dict[str, Any]:
    """What it states that matters, checked.

    Raises:
        NasError: remote code, a size out of range, or a value of another type.
    """
    value = _json(path)
    if "auto_map" in value:
        raise NasError(f"{CONFIG}: auto_map names code of the model's own, which is never run")
    kept: dict[str, Any] = {}
    for key, most in _MOST.items():
        if value.get(key) is not None:
            number = value[key]
            if type(number) is not int or not 1 <= number <= most:
                raise NasError(f"{CONFIG}: {key} must be a whole number from 1 to {most:,}")
            kept[key] = number
    for key in _NUMBERS:
        if value.get(key) is not None:
            if isinstance(value[key], bool) or not isinstance(value[key], int | float):
                raise NasError(f"{CONFIG}: {key} must be a number")
            kept[key] = value[key]
    for key in _WORDS:
        if value.get(key) is not None:
            if not isinstance(value[key], bool | str) or len(str(value[key])) > 60:
                raise NasError(f"{CONFIG}: {key} must be a word, true or false")
            kept[key] = value[key]
    architectures = value.get("architectures") or []
    if not isinstance(architectures, list) or not all(
        isinstance(one, str) and re.fullmatch(r"\w{1,80}", one) for one in architectures
    ):
        raise NasError(f"{CONFIG}: architectures must be a list of names")
    kept["architectures"] = architectures
    return kept | _read_labels(value)


def _read_labels(config: dict[str, Any]) -> dict[str, Any]:
    names = config.get("id2label")
    if names is None:
        return {}
    if not isinstance(names, dict) or not 1 <= len(names) <= _CLASSES:
        raise NasError(f"{CONFIG}: id2label must name 1 to {_CLASSES:,} labels")
    if set(names) != {str(index) for index in range(len(names))}:
        raise NasError(f"{CONFIG}: id2label must number the labels from 0 to {len(names) - 1}")
    ordered = [names[str(index)] for index in range(len(names))]
    for one in ordered:
        if not isinstance(one, str):
            raise NasError(f"{CONFIG}: labels are texts, not {shown(one)}")
        check_text(f"{CONFIG}: label", one, most=200)
    if len(set(ordered)) < len(ordered):
        raise NasError(f"{CONFIG}: id2label has a label twice")
    return {
        "id2label": {str(index): one for index, one in enumerate(ordered)},
        "label2id": {one: index for index, one in enumerate(ordered)},
    }


def _check_index(path: Path, weights: list[str]) -> None:
    places = _json(path).get("weight_map")
    if not isinstance(places, dict) or not set(places.values()) <= set(weights):
        raise NasError(f"{path.name} names files of weights that were not sent")


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _JSON_BYTES:
        raise NasError(f"{path.name} has more than {_JSON_BYTES:,} bytes")
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (NasError, UnicodeDecodeError) as error:
        raise NasError(f"{path.name}: {error}") from error
    if not isinstance(value, dict):
        raise NasError(f"{path.name} must hold an object")
    return value


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
