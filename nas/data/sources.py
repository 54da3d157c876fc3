"""Where a task's data comes from: each source becomes a table for each split.

Sources are ``pydoc`` (built on this machine, see :mod:`nas.data.pydoc`), a folder
(:mod:`nas.data.split_files`), a single file (:mod:`nas.data.tables`), and data sets of the Hugging
Face hub.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.data.pydoc import Progress, load_corpus, sample_task
from nas.data.split_files import CANONICAL, split_files
from nas.data.tables import kind_of, read_table, with_names
from supernet.errors import NasError

if TYPE_CHECKING:
    import pandas as pd

Tables = dict[str, "pd.DataFrame"]
"""A table for each split, by the names of :data:`nas.data.split_files.SPLIT_NAMES`; unsplit data is
all ``train``."""

PYDOC = "pydoc"

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """What a source holds.

    Args:
        tables: none of them empty.
        ignored: files of data that were passed over.
        told: what there is to say of how files were read.
    """

    tables: Tables
    ignored: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def read_source(
    source: str,
    known: tuple[str, ...],
    label_column: str | None,
    *,
    seed: int,
    progress: Progress | None,
) -> Found:
    """The tables of ``source``.

    Args:
        source: as :func:`nas.data.task_data.load_data` takes it.
        known: names of columns that are looked for, by which CSV's delimiter is told.
        label_column: whose numbers and class names are recognised; None leaves labels alone.
        seed: of pydoc's sample.
        progress: of pydoc, as in :func:`nas.data.pydoc.load_corpus`.

    Raises:
        NasError: the source is not there, not readable, or empty.
    """
    if source == PYDOC:
        corpus = load_corpus(progress=progress)
        return Found({"train": sample_task(corpus, seed=seed), "unlabelled": corpus[["text"]]})
    path = _path(source)
    try:
        if path.is_dir():
            found = _read_folder(path, known, label_column)
        elif path.is_file():
            table, told = read_table(path, known, label_column)
            found = Found({"train": table}, told=(told,) if told else ())
        elif _HUB_NAME.fullmatch(source) and kind_of(path) is None:
            found = Found(_read_hub(source, label_column))
        else:
            raise NasError(f"data {source}: no such file or folder")
    except OSError as error:
        raise NasError(f"data {source}: cannot be read: {error.strerror or error}") from error
    for name, table in found.tables.items():
        if table.empty:
            raise NasError(f"data {source}: the {name} split is empty")
    return found


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


def _read_folder(folder: Path, known: tuple[str, ...], label_column: str | None) -> Found:
    import pandas as pd

    files = split_files(folder)
    tables, told = {}, []
    for name, paths in files.splits.items():
        read = [read_table(path, known, label_column) for path in paths]
        tables[name] = pd.concat([table for table, _ in read], ignore_index=True)
        told += [said for _, said in read if said]
    ignored = tuple(str(path.relative_to(folder)) for path in files.ignored)
    return Found(tables, ignored, tuple(told))


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
    tables = {}
    for split, rows in loaded.items():
        if split not in CANONICAL:
            continue
        table = rows.to_pandas()
        names = getattr(rows.features.get(label_column), "names", None)
        if names is not None:
            table = with_names(table, label_column, names)
            if CANONICAL[split] != "unlabelled" and table[label_column].isna().all():
                _log.info("the hub hides the labels of %s: passed over", split)
                continue
        tables[CANONICAL[split]] = table
    return tables


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
