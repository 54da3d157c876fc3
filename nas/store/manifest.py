"""What an artifact's folder holds: its inputs and checksums, and whether they still hold."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from latency.atomic import sync, write_text
from supernet.errors import NasError

MANIFEST = "manifest.json"
CLOCK = ".build-clock.json"
SCRATCH = "checkpoints"
"""The subfolder where a build keeps what only a resumed build needs."""

_STAGE = re.compile(r"[a-z][a-z0-9-]*")
_PACKAGES = ("tailorbert", "torch", "transformers", "numpy", "scikit-learn", "onnxruntime")

Json = Mapping[str, Any]


class CorruptError(Exception):
    """What is wrong with an artifact, in a few words."""


def artifact_key(stage: str, inputs: Json) -> str:
    """The sha256, as 64 hex digits, of the canonical JSON of a stage's name and inputs.

    Key order does not matter; tuples count as lists; 1 and 1.0 differ.

    Raises:
        NasError: a stage that is no folder name, or inputs that JSON cannot state exactly.
    """
    if not _STAGE.fullmatch(stage):
        raise NasError(f"stage {stage!r} must be lower-case letters, digits and hyphens")
    _check_json(inputs, f"inputs of {stage}")
    return hashlib.sha256(_canonical({"stage": stage, "inputs": inputs}).encode()).hexdigest()


def write_manifest(folder: Path, stage: str, key: str, inputs: Json, seconds: float) -> None:
    """Have the disk hold the files of ``folder``, then say what they are.

    Raises:
        NasError: there is something that is neither a file nor a folder.
    """
    try:
        files = _files(folder)
    except CorruptError as error:
        raise NasError(f"stage {stage} cannot be stored: {error}") from error
    for path in files.values():
        sync(path)
    manifest = {
        "stage": stage,
        "key": key,
        "inputs": inputs,
        "seconds": round(seconds, 3),
        "versions": _versions(),
        "files": {
            name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
            for name, path in files.items()
        },
    }
    write_text(folder / MANIFEST, json.dumps(_signed(manifest), indent=1) + "\n")


def verify(folder: Path, key: str) -> float:
    """Check every file against the manifest.

    Returns:
        The seconds that the build took.

    Raises:
        CorruptError: something is missing, altered or of other inputs.
    """
    manifest = read_manifest(folder, key)
    found = _files(folder)  # names come from the disk, so no manifest can point outside
    for name, expected in manifest["files"].items():
        if name not in found:
            raise CorruptError(f"{name} is missing")
        if found[name].stat().st_size != expected["bytes"]:
            raise CorruptError(f"{name} has not its {expected['bytes']} bytes")
        if file_digest(found[name]) != expected["sha256"]:
            raise CorruptError(f"{name} was altered")
    return float(manifest["seconds"])


def read_manifest(folder: Path, key: str) -> dict[str, Any]:
    if folder.is_symlink() or not folder.is_dir():
        raise CorruptError("it is no folder")
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise CorruptError(f"{MANIFEST} is missing") from error
    except OSError as error:
        raise CorruptError(f"{MANIFEST} is unreadable") from error
    return parse_manifest(content, key)


def parse_manifest(content: bytes, key: str) -> dict[str, Any]:
    """What a manifest says, if it is whole and that of ``key``.

    Raises:
        CorruptError: it is not.
    """
    try:
        manifest: dict[str, Any] = json.loads(content)
        intact = isinstance(manifest, dict) and manifest == _signed(manifest)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{MANIFEST} is unreadable") from error
    if not intact:
        raise CorruptError(f"{MANIFEST} was altered")
    if manifest.get("key") != key:
        raise CorruptError("it was made from other inputs")
    return manifest


def _signed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the checksum of its own content."""
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    return content | {"sha256": hashlib.sha256(_canonical(content).encode()).hexdigest()}


def _files(folder: Path) -> dict[str, Path]:
    """The artifact's own files by their path within it: no manifest, clock or scratch.

    Raises:
        CorruptError: something there is neither a file nor a folder, a link for one.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] in (MANIFEST, CLOCK, SCRATCH):
            continue
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise CorruptError(f"{name} is not a regular file")
        if path.is_file():
            found[name.as_posix()] = path
    return found


def file_digest(path: Path) -> str:
    """The sha256 of a file's content, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _check_json(value: Any, where: str) -> None:
    """Refuse what JSON would change in silence: number keys, NaN, and any other type."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            if not isinstance(name, str):
                raise NasError(f"{where}: key {name!r} must be text")
            _check_json(member, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            _check_json(member, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise NasError(f"{where} must be a finite number, not {value}")
    elif not (value is None or isinstance(value, str | int | float)):
        raise NasError(f"{where} must be a JSON value, not {value!r}")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
