"""Data for a task: read from a source, checked, split, and turned into immutable examples.

Sources: ``pydoc`` (built on this machine, see :mod:`nas.pydoc`), a folder with a file for each
split, a single file, or a data set of the Hugging Face hub. Every source becomes a table for each
split; from there one path leads to :class:`TaskData`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, check_metric
from nas.pydoc import Progress, load_corpus, sample_task
from supernet.errors import NasError

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["classification", "regression"]
Tables = dict[str, "pd.DataFrame"]

PYDOC = "pydoc"
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "validation_matched"),
    "test": ("test",),
    "all": ("all",),
    "unlabelled": ("unlabelled", "unlabeled", "unsupervised"),
}
SUFFIXES = (".parquet", ".csv", ".jsonl")
PAIR_COLUMNS = (
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
)
SINGLE_COLUMNS = ("text", "sentence", "question", "content")
HELD_OUT = 0.1

_CANONICAL = {alias: name for name, aliases in SPLIT_NAMES.items() for alias in aliases}
_FILE = re.compile(rf"(?P<split>{'|'.join(_CANONICAL)})(?P<shard>-\d{{5}}-of-\d{{5}})?")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts, or text pairs, with or without labels.

    Args:
        text_a: the text, or the first of a pair.
        text_b: the second of a pair; None for single texts.
        labels: int64 class indices or float64 values, ``(examples,)``; kept as a read-only copy.

    Raises:
        NasError: lengths that differ, or labels neither integer nor float.
    """

    text_a: tuple[str, ...]
    text_b: tuple[str, ...] | None = None
    labels: NDArray[np.int64] | NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.text_b is not None and len(self.text_b) != len(self.text_a):
            raise NasError(f"text_b has {len(self.text_b)} texts, text_a {len(self.text_a)}")
        if self.labels is None:
            return
        if self.labels.shape != (len(self.text_a),):
            raise NasError(f"labels of shape {self.labels.shape} for {len(self.text_a)} texts")
        if self.labels.dtype.kind not in "if":
            raise NasError(f"labels must be integer or float, not {self.labels.dtype}")
        dtype = np.float64 if self.labels.dtype.kind == "f" else np.int64
        labels = self.labels.astype(dtype)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.text_a)

    def take(self, rows: Iterable[int]) -> Examples:
        """The examples at ``rows``, in that order."""
        picked = list(rows)
        return Examples(
            tuple(self.text_a[row] for row in picked),
            None if self.text_b is None else tuple(self.text_b[row] for row in picked),
            None if self.labels is None else self.labels[picked],
        )


@dataclass(frozen=True)
class Task:
    """What is to be predicted.

    Args:
        name: for people: the source's name.
        kind: "classification" or "regression".
        label_names: a name for each class index; empty for regression.
        metric: one of :data:`nas.metrics.METRICS` that fits the kind.
        pair: whether an example is a pair of texts.

    Raises:
        NasError: fewer than two classes, classes for a regression, a metric of the other kind.
    """

    name: str
    kind: Kind
    label_names: tuple[str, ...]
    metric: str
    pair: bool = False

    def __post_init__(self) -> None:
        accepted = {"classification": CLASSIFICATION_METRICS, "regression": REGRESSION_METRICS}
        if self.kind not in accepted:
            raise NasError(f"kind must be classification or regression, not {self.kind!r}")
        if self.metric not in accepted[self.kind]:
            raise NasError(
                f"metric {self.metric!r} is not for {self.kind}; "
                f"accepted: {', '.join(accepted[self.kind])}"
            )
        if self.kind == "regression" and self.label_names:
            raise NasError(f"a regression has no label names, not {self.label_names!r}")
        if self.kind == "classification" and len(self.label_names) < 2:
            raise NasError(f"a classification needs two classes, not {self.label_names!r}")

    @property
    def num_labels(self) -> int:
        """Outputs of the model's head: the classes, or 1 for regression."""
        return len(self.label_names) or 1


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task and its examples. ``test`` is for the last figure alone, never for a choice.

    ``unlabelled`` holds further texts for distillation, none of them of validation or test.
    """

    task: Task
    train: Examples
    validation: Examples
    test: Examples
    unlabelled: tuple[str, ...] = ()


def load_data(
    source: str,
    *,
    text_columns: str | Sequence[str] | None = None,
    label_column: str = "label",
    metric: str | None = None,
    seed: int,
    limit: int | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> TaskData:
    """Read a task's data and split it.

    Integer, string and boolean labels are classes, float labels values to regress on; ``metric``
    decides where it is given. Splits that the source lacks are taken, seeded and stratified: no
    validation: 10% of train; no test: the validation split becomes the test, and 10% of train
    the validation; neither: 10% each.

    Args:
        source: ``pydoc``; a folder with files named by split (:data:`SPLIT_NAMES`); a file
            (:data:`SUFFIXES`); or a hub name, ``name`` or ``name:configuration``.
        text_columns: the text's column, or both of a pair; by default the first of
            :data:`PAIR_COLUMNS`, then :data:`SINGLE_COLUMNS`, that is there.
        label_column: the label's column.
        metric: one of :data:`nas.metrics.METRICS`; by default accuracy or pearson_spearman.
        seed: of the splits, of ``limit`` and of pydoc's sample.
        limit: at most this many training examples, stratified; validation and test stay whole.
        cache_dir: of pydoc, as in :func:`nas.pydoc.load_corpus`.
        progress: of pydoc, likewise.

    Raises:
        NasError: whatever is wrong with the source, in one line.
    """
    if metric is not None:
        check_metric(metric)
    if limit is not None and limit < 2:
        raise NasError(f"limit must be at least 2 training examples, not {limit}")
    tables = _read_source(source, label_column, seed, cache_dir, progress)
    extra = tables.pop("unlabelled", None)
    if "train" not in tables:
        raise NasError(f"data {source}: no train split; found {_names(tables)}")
    columns = _text_columns(source, tables["train"], text_columns)
    kind, label_names, labels = _read_labels(source, tables, label_column, metric)
    splits = _split(
        source,
        {name: _examples(source, name, tables[name], columns, labels[name]) for name in tables},
        np.random.default_rng(seed),
    )
    if limit is not None and limit < len(splits["train"]):
        rng = np.random.default_rng(seed)
        splits["train"] = splits["train"].take(_spread(_labels(splits["train"]), limit, rng))
    default_metric = "accuracy" if kind == "classification" else "pearson_spearman"
    task = Task(_name(source), kind, label_names, metric or default_metric, len(columns) == 2)
    unlabelled: tuple[str, ...] = ()
    if extra is not None:
        held_out = set(_all_texts(splits["validation"])) | set(_all_texts(splits["test"]))
        texts = _all_texts(_unlabelled(source, "unlabelled", extra, text_columns))
        unlabelled = tuple(text for text in dict.fromkeys(texts) if text not in held_out)
    return TaskData(task, splits["train"], splits["validation"], splits["test"], unlabelled)


def load_texts(
    source: str,
    *,
    text_columns: str | Sequence[str] | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Distinct texts for task-agnostic distillation, in the source's order; labels are ignored.

    A folder gives its ``train``, ``all`` and ``unlabelled`` files, never validation or test; both
    texts of a pair count. ``pydoc`` gives all its paragraphs; for a model to be tested on the
    pydoc task take :attr:`TaskData.unlabelled`, which leaves the held-out ones out. Arguments as
    in :func:`load_data`.

    Raises:
        NasError: as :func:`load_data`, or nothing to train on.
    """
    if source == PYDOC:
        return tuple(load_corpus(cache_dir, progress=progress)["text"])
    tables = _read_source(source, None, 0, cache_dir, progress)
    texts: dict[str, None] = {}
    for name in ("train", "unlabelled"):
        if name in tables:
            examples = _unlabelled(source, name, tables[name], text_columns)
            texts.update(dict.fromkeys(_all_texts(examples)))
    if not texts:
        raise NasError(f"data {source}: no train or unlabelled split; found {_names(tables)}")
    return tuple(texts)


# Sources. Each gives a table for each split; what is not split yet is all "train".


def _read_source(
    source: str,
    label_column: str | None,
    seed: int,
    cache_dir: Path | None,
    progress: Progress | None,
) -> Tables:
    path = Path(source).expanduser()
    if source == PYDOC:
        corpus = load_corpus(cache_dir, progress=progress)
        return {"train": sample_task(corpus, seed=seed), "unlabelled": corpus[["text"]]}
    if path.is_dir():
        tables = _read_folder(path, label_column)
    elif path.is_file():
        tables = {"train": _read_file(path, label_column)}
    elif _HUB_NAME.fullmatch(source) and path.suffix not in SUFFIXES:
        tables = _read_hub(source, label_column)
    else:
        raise NasError(f"data {source}: no such file or folder")
    for name, table in tables.items():
        if table.empty:
            raise NasError(f"data {source}: the {name} split is empty")
    return tables


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
            f"({', '.join(SUFFIXES)}); found {_names(path.name for path in present)}"
        )
    if "all" in files:
        if {"train", "validation", "test"} & set(files):
            raise NasError(
                f"data {folder}: a file named all excludes others; found {_names(files)}"
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


# From tables to examples.


def _text_columns(
    source: str, table: pd.DataFrame, requested: str | Sequence[str] | None
) -> tuple[str, ...]:
    if requested is None:
        for columns in (*PAIR_COLUMNS, *((single,) for single in SINGLE_COLUMNS)):
            if all(column in table for column in columns):
                return columns
        pairs = (" + ".join(pair) for pair in PAIR_COLUMNS)
        raise NasError(
            f"data {source}: no text column among {_names(table)}; name it, or use one of "
            f"{', '.join((*SINGLE_COLUMNS, *pairs))}"
        )
    columns = (requested,) if isinstance(requested, str) else tuple(requested)
    if len(columns) not in (1, 2):
        raise NasError(f"text_columns must be one column or two, not {columns}")
    return columns


def _examples(
    source: str,
    split: str,
    table: pd.DataFrame,
    columns: tuple[str, ...],
    labels: NDArray[np.int64] | NDArray[np.float64] | None,
) -> Examples:
    texts = []
    for column in columns:
        _check_column(source, split, table, column, "text")
        values = tuple(table[column])
        for row, value in enumerate(values, start=1):
            if not isinstance(value, str):
                raise NasError(
                    f"data {source}: column {column!r} of {split} must hold text; "
                    f"row {row} holds {value!r}"
                )
        texts.append(values)
    return Examples(texts[0], texts[1] if len(texts) == 2 else None, labels)


def _unlabelled(
    source: str, split: str, table: pd.DataFrame, requested: str | Sequence[str] | None
) -> Examples:
    return _examples(source, split, table, _text_columns(source, table, requested), None)


def _all_texts(examples: Examples) -> tuple[str, ...]:
    return examples.text_a + (examples.text_b or ())


def _read_labels(
    source: str, tables: Tables, column: str, metric: str | None
) -> tuple[Kind, tuple[str, ...], dict[str, NDArray[Any]]]:
    """The task's kind, its class names, and the labels of each split as indices or values."""
    import pandas as pd

    where = f"data {source}: label column {column!r}"
    for split, table in tables.items():
        _check_column(source, split, table, column, "label")
        absent = table[column].isna()
        for row, (value, is_absent) in enumerate(zip(table[column], absent, strict=True), start=1):
            if is_absent or (isinstance(value, str) and not value.strip()):
                raise NasError(f"{where} is empty in row {row} of {split}")
    columns = {split: table[column] for split, table in tables.items()}
    holds = pd.api.types.infer_dtype(pd.concat(columns.values(), ignore_index=True))
    if holds == "mixed-integer-float":
        holds = "floating"
    if holds not in ("integer", "floating", "string", "boolean", "categorical"):
        raise NasError(f"{where} holds {holds} values; accepted: all integer, text, bool or float")
    distinct = set(columns["train"].tolist())
    if len(distinct) == 1:
        raise NasError(f"{where} is {distinct.pop()!r} in every row of train: nothing to learn")
    if metric in REGRESSION_METRICS or (metric is None and holds == "floating"):
        return "regression", (), _values(where, columns, holds)
    names, indices = _classes(where, columns, holds)
    return "classification", names, indices


def _values(
    where: str, columns: dict[str, pd.Series[Any]], holds: str
) -> dict[str, NDArray[np.float64]]:
    if holds not in ("integer", "floating"):
        example = columns["train"].iloc[0]
        raise NasError(f"{where} must be numeric for a regression, not {example!r}")
    values = {split: column.to_numpy(np.float64) for split, column in columns.items()}
    for split, array in values.items():
        if not np.isfinite(array).all():
            raise NasError(f"{where} is infinite in row {np.isinf(array).argmax() + 1} of {split}")
    return values


def _classes(
    where: str, columns: dict[str, pd.Series[Any]], holds: str
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Class names, which train alone defines unless the source states them, and indices."""
    train = set(columns["train"].tolist())
    for split, column in columns.items():
        for value in column.tolist():
            if holds == "floating" and value % 1:
                raise NasError(f"{where} must hold classes for such a metric, not {value!r}")
            if value not in train:
                raise NasError(f"{where} is {value!r} in {split}, a class that train has not")
    order = list(columns["train"].cat.categories) if holds == "categorical" else sorted(train)
    index = {value: number for number, value in enumerate(order)}
    names = tuple(str(int(value) if holds == "floating" else value) for value in order)
    return names, {
        split: np.array([index[value] for value in column.tolist()], np.int64)
        for split, column in columns.items()
    }


def _check_column(source: str, split: str, table: pd.DataFrame, column: str, use: str) -> None:
    if column not in table:
        raise NasError(
            f"data {source}: no {use} column {column!r} in {split}; found {_names(table)}"
        )


# Splits.


def _split(
    source: str, splits: dict[str, Examples], rng: np.random.Generator
) -> dict[str, Examples]:
    """Train, validation and test, whatever of the three there was besides train."""
    splits = dict(splits)
    count = max(1, round(HELD_OUT * len(splits["train"])))
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
    for name in ("test", "validation"):
        if name not in splits:
            splits["train"], splits[name] = _hold_out(source, splits["train"], count, rng)
    return splits


def _labels(examples: Examples) -> NDArray[Any]:
    assert examples.labels is not None
    return examples.labels


def _hold_out(
    source: str, examples: Examples, count: int, rng: np.random.Generator
) -> tuple[Examples, Examples]:
    """The examples without ``count`` of them, and those; every class stays in the first."""
    labels = _labels(examples)
    eligible = np.arange(len(examples))
    if labels.dtype == np.int64:
        eligible = eligible[np.bincount(labels)[labels] > 1]
    if len(eligible) <= count:
        raise NasError(
            f"data {source}: {len(examples)} training examples are too few to hold out {count}"
        )
    held = eligible[_spread(labels[eligible], count, rng)]
    return examples.take(np.setdiff1d(np.arange(len(examples)), held)), examples.take(held)


def _spread(labels: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``count`` row numbers, ascending, that represent the labels: systematic sampling.

    Rows in random order are sorted by label and picked at even steps, so that each class has its
    share to within one, and of continuous labels every part of the range.
    """
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    steps = (np.arange(count) + rng.random()) * (len(labels) / count)
    return np.sort(by_label[steps.astype(np.int64)])


def _name(source: str) -> str:
    path = Path(source).expanduser()
    if not path.exists():
        return source
    return path.stem if path.is_file() else path.resolve().name


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(str, names)) or "nothing"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
