"""The files of an uploaded model: what its configuration, labels and weights may state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from nas.service.plain_text import check_text
from nas.service.uploads.strict_json import parse_json
from supernet.errors import NasError

CONFIG = "config.json"

Labels = Annotated[dict[str, str], Field(min_length=1, max_length=10_000)] | None

_HEADER_BYTES = 4_000_000

_Config = TypeVar("_Config", bound=BaseModel)


def read_object(path: Path, most_bytes: int) -> dict[str, Any]:
    """The object that a JSON file states.

    Raises:
        NasError: it is too large, or states no object.
    """
    if path.stat().st_size > most_bytes:
        raise NasError(f"{path.name} has more than {most_bytes:,} bytes")
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (NasError, UnicodeDecodeError) as error:
        raise NasError(f"{path.name}: {error}") from error
    if not isinstance(value, dict):
        raise NasError(f"{path.name} must hold an object")
    return value


def checked_config(kind: type[_Config], stated: Mapping[str, Any]) -> _Config:
    """A configuration, as ``kind`` accepts it.

    Raises:
        NasError: naming the first key that is not accepted.
    """
    try:
        return kind.model_validate_json(json.dumps(stated))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])[:60] or CONFIG
        raise NasError(f"{CONFIG}: {key}: {first['msg']}") from error


def checked_labels(id2label: Mapping[str, str]) -> list[str]:
    """The labels of a configuration, in the order of their numbers.

    Raises:
        NasError: the numbers are not 0, 1, 2 and so on, a label stands twice, or it is not plain.
    """
    numbers = [str(index) for index in range(len(id2label))]
    if set(id2label) != set(numbers):
        raise NasError(f"{CONFIG}: id2label must number the labels from 0 to {len(numbers) - 1}")
    names = [id2label[number] for number in numbers]
    for name in names:
        check_text(f"{CONFIG}: label", name, most=200)
    if len(set(names)) < len(names):
        raise NasError(f"{CONFIG}: id2label has a label twice")
    return names


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a checked configuration into a new folder."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def check_header(path: Path) -> None:
    """Refuse a file of weights that states a header larger than any model has.

    Raises:
        NasError: telling the size that it states.
    """
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > _HEADER_BYTES:
        raise NasError(f"{path.name} states a header of {header:,} bytes")
