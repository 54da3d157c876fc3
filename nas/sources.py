"""Where a task's data comes from: each source becomes a table for each split.

Sources are ``pydoc`` (built on this machine, see :mod:`nas.pydoc`), a folder with a file for each
split, a single file, and data sets of the Hugging Face hub.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.pydoc import Progress, load_corpus, sample_task
from supernet.errors import NasError

if TYPE_CHECKING:
    import pandas as pd

Tables = dict[str, "pd.DataFrame"]
"""A table for each split, by the names of :data:`SPLIT_NAMES`; unsplit data is all ``train``."""

PYDOC = "pydoc"
SUFFIXES = (".parquet", ".csv", ".jsonl")
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "validation_matched"),
    "test": ("test",),
    "all": ("all",),
    "unlabelled": ("unlabelled", "unlabeled", "unsupervised"),
}

_CANONICAL = {alias: name for name, aliases in SPLIT_NAMES.items() for alias in aliases}
_FILE = re.compile(rf"(?P<split>{'|'.join(_CANONICAL)})(?P<shard>-\d{{5}}-of-\d{{5}})?")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")

_log = logging.getLogger(__name__)


def read_source(
    source: str,
    label_column: str | None,
    *,
    seed: int,
    progress: Progress | None,
) -> Tables:
    """The tables of ``source``, none of them empty.

    Args:
        source: as :func:`nas.data.load_data` takes it.
        label_column: whose numbers and class names are recognised; None leaves labels alone.
        seed: of pydoc's sample.
        progress: of pydoc, as in :func:`nas.pydoc.load_corpus`.

    Raises:
        NasError: the source is not there, not readable, or empty.
    """
    if source == PYDOC:
        corpus = load_corpus(progress=progress)
        return {"train": sample_task(corpus, seed=seed), "unlabelled": corpus[["text"]]}
    path = _path(source)
    try:
        if path.is_dir():
            tables = _read_folder(path, label_column)
        elif path.is_file():
            tables = {"train": _read_file(path, label_column)}
        elif _HUB_NAME.fullmatch(source) and path.suffix not in SUFFIXES:
            tables = _read_hub(source, label_column)
        else:
            raise NasError(f"data {source}: no such file or folder")
    except OSError as error:
        raise NasError(f"data {source}: cannot be read: {error.strerror or error}") from error
    for name, table in tables.items():
        if table.empty:
            raise NasError(f"data {source}: the {name} split is empty")
    return tables


def source_name(source: str) -> str:
    """A short name for people: of a file or folder its own, without the path to it."""
    path = _path(source)
    if source == PYDOC or not path.exists():
        return source
    return path.stem if path.is_file() else path.resolve().name


def listed(names: Iterable[str]) -> str:
    """Names for a message: ``text, label``, or ``nothing``."""
    return ", ".join(map(str, names)) or "nothing"


def _path(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise NasError(
            f"data {source}: the home folder of {Path(source).parts[0]} is unknown"
        ) from error


def _read_folder(folder: Path, label_column: str | None) -> Tables:
    import pandas as pd

    present = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    files: dict[str, list[Path]] = {}
    for path in present:
        match = _FILE.fullmatch(path.stem)
        if match is None:
            continue
        name = _CANONICAL[match["split"]]
        if name in files and not match["shard"]:
            raise NasError(
                f"data {folder}: {files[name][0].name} and {path.name} are both {name}; keep one"
            )
        files.setdefault(name, []).append(path)
    if not files and len(present) == 1:
        files["all"] = present
    if not files:
        raise NasError(
            f"data {folder}: needs files named train, validation, test or all "
            f"({', '.join(SUFFIXES)}); found {listed(path.name for path in present)}"
        )
    if "all" in files:
        if {"train", "validation", "test"} & set(files):
            raise NasError(
                f"data {folder}: a file named all excludes others; found {listed(files)}"
            )
        files["train"] = files.pop("all")
    return {
        name: pd.concat([_read_file(path, label_column) for path in paths], ignore_index=True)
        for name, paths in files.items()
    }


def _read_file(path: Path, label_column: str | None) -> pd.DataFrame:
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".jsonl":
            # Not splitlines(): a JSON string may hold U+2028 and the like as they are.
            lines = path.read_text(encoding="utf-8-sig").split("\n")
            return pd.DataFrame([_json_object(line) for line in lines if line.strip()])
        if path.suffix == ".csv":
            # Everything as it stands in the file: "None" or "007" may well be a text.
            table = pd.read_csv(path, dtype=str, na_filter=False, encoding="utf-8-sig")
            if label_column in table:
                numbers = pd.to_numeric(table[label_column], errors="coerce")
                if numbers.notna().all():
                    table[label_column] = numbers
            return table
    except (OSError, ValueError) as error:
        raise NasError(
            f"data {path}: not readable as {path.suffix[1:]}: {_one_line(error)}"
        ) from error
    raise NasError(f"data {path}: unknown file type; accepted: {', '.join(SUFFIXES)}")


def _json_object(line: str) -> dict[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError(f"a line must be an object, not {line[:40]!r}")
    return value


def _read_hub(source: str, label_column: str | None) -> Tables:
    try:
        import datasets
    except ImportError as error:
        raise NasError(
            f"data {source}: no such file or folder here, and for a data set of the hub "
            "the package datasets is missing: pip install datasets"
        ) from error
    name, _, configuration = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, configuration or None)
    except Exception as error:  # of a dozen kinds, from four libraries
        raise NasError(
            f"data {source}: no such file or folder here, and not to be had from the hub: "
            f"{_one_line(error)}"
        ) from error
    return _hub_tables(loaded, label_column)


def _hub_tables(loaded: Any, label_column: str | None) -> Tables:
    """Tables of a ``datasets.DatasetDict``, with class names where its features state them."""
    import pandas as pd

    tables = {}
    for split, rows in loaded.items():
        if split not in _CANONICAL:
            continue
        table = rows.to_pandas()
        names = getattr(rows.features.get(label_column), "names", None)
        if names is not None:
            codes = table[label_column].fillna(-1).astype(int)
            table[label_column] = pd.Categorical.from_codes(codes, names)
            if _CANONICAL[split] != "unlabelled" and (codes == -1).all():
                _log.info("the hub hides the labels of %s: passed over", split)
                continue
        tables[_CANONICAL[split]] = table
    return tables


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
