"""Reads architectures from what a person gives: JSON text, files, folders of models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError


class Candidate(NamedTuple):
    """An architecture, and its model's shape if that is known."""

    architecture: Architecture
    shape: EncoderShape | None
    told: bool = True
    """Whether the architecture describes all factored matrices of the model."""


def read_candidates(text: str) -> list[Candidate]:
    """The architectures that an argument names.

    Args:
        text: JSON, or a JSON file, of one architecture, a list of them, or a model's
            configuration; or a folder with a ``config.json``, itself or in its ``model``.

    Raises:
        NasError: something else, or not a BERT-like encoder.
    """
    if text.lstrip().startswith(("{", "[")):
        return _parsed(text, "architecture")
    path = Path(text)
    try:
        if path.is_dir():
            path = _config(path)
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NasError(
            f"architecture {text!r} is neither JSON nor a file or folder here"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(f"architecture {text!r} cannot be read: {error}") from error
    return _parsed(content, str(path))


def _config(folder: Path) -> Path:
    for path in (folder / "config.json", folder / "model" / "config.json"):
        if path.is_file():
            return path
    raise NasError(f"{folder} holds no model: neither config.json nor model/config.json")


def _parsed(content: str, source: str) -> list[Candidate]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NasError(f"{source}: not valid JSON: {error}") from error
    try:
        return [_candidate(one) for one in (data if isinstance(data, list) else [data])]
    except NasError as error:
        raise NasError(f"{source}: {error}") from error


def _candidate(data: Any) -> Candidate:
    if isinstance(data, Mapping) and "model_type" in data:
        architecture = Architecture.from_config(data)
        told = not set(data.get("factors") or {}) - set(architecture.factors)
        return Candidate(architecture, EncoderShape.from_config(data), told)
    return Candidate(Architecture.from_dict(data), None)
