"""Which files of a folder hold which split, by the names that people and libraries give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.data.tables import SUFFIXES, kind_of, stem_of
from supernet.errors import NasError

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": (
        "validation", "valid", "val", "dev", "eval", "evaluation", "validation_matched",
    ),
    "test": ("test", "testing"),
    "all": ("all",),
    "unlabelled": ("unlabelled", "unlabeled", "unsupervised"),
}  # fmt: skip

CANONICAL = {alias: name for name, aliases in SPLIT_NAMES.items() for alias in aliases}

_SHARD = r"-\d{5}-of-\d{5}(-[0-9a-f]+)?"
_FILE = re.compile(rf"(?P<split>{'|'.join(CANONICAL)})(?P<shard>{_SHARD})?")
_PART = re.compile(rf"(?P<name>.*?)({_SHARD})")
_DEPTH = 3
_PAPERS = {"dataset_info", "dataset_dict", "dataset_infos", "state"}
"""What ``datasets`` writes beside data, as JSON."""


@dataclass(frozen=True)
class SplitFiles:
    """The files of each split, and those that are passed over."""

    splits: dict[str, list[Path]]
    ignored: list[Path]


def split_files(folder: Path) -> SplitFiles:
    """The files of a folder by the split that their name, or that of their folder, tells.

    Read are ``train.csv``, shards as ``train-00000-of-00004-<hash>.parquet``, a folder for each
    split (``train/0000.parquet``), folders in ``data/`` or under a configuration's name, and what
    ``save_to_disk`` of ``datasets`` writes. A single file, or the shards of one, are ``all``.

    Raises:
        NasError: two files for one split that are no shards, ``all`` beside others, or none.
    """
    present = sorted(
        path
        for path in folder.rglob("*")
        if kind_of(path)
        and path.is_file()
        and len(path.relative_to(folder).parts) <= _DEPTH
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        and stem_of(path) not in _PAPERS
    )
    splits: dict[str, list[Path]] = {}
    whole: dict[str, Path] = {}
    ignored = []
    for path in present:
        name, is_shard = _split_of(path, folder)
        if name is None:
            ignored.append(path)
            continue
        if name in splits and (not is_shard or name in whole):
            other = whole.get(name, splits[name][0])
            raise NasError(f"data {folder}: {_two(other, path, folder)} are both {name}; keep one")
        if not is_shard:
            whole[name] = path
        splits.setdefault(name, []).append(path)
    if not splits and len({_part_of(path) for path in present}) == 1:
        splits, ignored = {"all": present}, []
    if not splits:
        raise NasError(
            f"data {folder}: needs files named train, validation, test or all "
            f"({', '.join(SUFFIXES)}); found {_listed(path.name for path in present)}"
        )
    _check(folder, splits)
    if "all" in splits:
        splits["train"] = splits.pop("all")
    return SplitFiles(splits, ignored)


def _split_of(path: Path, folder: Path) -> tuple[str | None, bool]:
    """The split that a file is of, and whether others may be of it, too."""
    match = _FILE.fullmatch(stem_of(path))
    if match is not None:
        return CANONICAL[match["split"]], match["shard"] is not None
    for parent in path.relative_to(folder).parents:
        if parent.name.lower() in CANONICAL:
            return CANONICAL[parent.name.lower()], True
    return None, False


def _part_of(path: Path) -> tuple[Path, str]:
    """What shards of one table have in common."""
    match = _PART.fullmatch(stem_of(path))
    return path.parent, stem_of(path) if match is None else match["name"] + "-"


def _check(folder: Path, splits: dict[str, list[Path]]) -> None:
    if "all" in splits and {"train", "validation", "test"} & set(splits):
        raise NasError(f"data {folder}: a file named all excludes others; found {_listed(splits)}")
    for name, paths in splits.items():
        kinds = {kind_of(path): path for path in paths}
        if len(kinds) > 1:
            first, second, *_ = kinds.values()
            raise NasError(
                f"data {folder}: {_two(first, second, folder)} are both {name}; keep one"
            )
        if len({path.parent for path in paths}) > 1:
            first, *_, last = paths
            raise NasError(f"data {folder}: {_two(first, last, folder)} are both {name}; keep one")


def _two(first: Path, second: Path, folder: Path) -> str:
    return f"{first.relative_to(folder)} and {second.relative_to(folder)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
