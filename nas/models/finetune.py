"""Fine-tuning a teacher until it has learnt its task."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from transformers import PreTrainedModel

from nas.data.task_data import TaskData
from nas.data.tokenization import EncodedExamples, encode
from nas.models.evaluate import Collate, collator, score
from nas.models.finetune_settings import FinetuneSettings
from nas.models.saving import save_model
from nas.models.teacher import Teacher, digest, load_teacher, teacher_scores
from nas.store.full_disk import full_disk_reported
from nas.store.manifest import artifact_key
from nas.tasks.chance import standing, teacher_doubt
from nas.tasks.units import predict_values
from nas.terminal.progress import Display
from supernet.errors import NasError
from supernet.training import BEST, Best, Progress, ResumableTrainer, Watch
from supernet.training_settings import Schedule, TrainingSettings
from supernet.used_words import used_words


def finetune(
    model: PreTrainedModel,
    train: EncodedExamples,
    validation: EncodedExamples,
    collate: Collate,
    metric: str,
    settings: FinetuneSettings,
    folder: Path,
    *,
    seed: int,
    progress: Progress = lambda _done, _total: None,
) -> None:
    """Train a classifier on labels, in place, until its validation score no longer improves.

    It ends with the weights that scored best; resumable in ``folder``.

    Args:
        metric: that is computed on ``validation``; higher is better.
        progress: called with the steps done and the steps in all, of each part anew.
    """
    batch = min(settings.batch_size, len(train))
    epoch = max(1, len(train) // batch)

    def watched() -> float:
        return score(
            lambda inputs: model(**inputs).logits, validation, collate, model.device, metric
        )

    def learn(name: str, steps: int, schedule: Schedule, warmup: float, watch: Watch) -> Best:
        trainer = ResumableTrainer(
            model,
            train,
            collate,
            TrainingSettings(
                learning_rate=settings.learning_rate,
                steps=steps,
                batch_size=settings.batch_size,
                warmup=warmup,
                schedule=schedule,
            ),
            folder / name,
            seed=seed,
            watch=watch,
            progress=progress,
        )
        with used_words(model, train.columns["input_ids"]):
            trainer.run()
        best = Best.read(folder / name / BEST)
        assert best is not None, "the weights a training begins with are scored"
        return best

    steps = settings.epochs * epoch
    warmup = settings.warmup * epoch / steps
    every = max(1, epoch // settings.checks)
    watch = Watch(watched, every, settings.patience, settings.least_gain, settings.minutes)
    best = learn("first", steps, "constant_with_warmup", warmup, watch)
    watch = Watch(watched, epoch, minutes=settings.minutes, first=best.score)
    learn("second", max(epoch, round(settings.decay * best.step)), "linear", 0.0, watch)
    model.eval()


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
        "finetune": settings.identity,
        "max_length": max_length,
        "seed": seed,
    }
    scratch = output.with_name(f"{output.name}.{artifact_key('teacher', inputs)[:8]}.partial")
    with full_disk_reported(output.parent):
        with display.bar("Fine-tune the teacher") as bar:
            finetune_on(
                teacher, data, settings, scratch, max_length=max_length, seed=seed, progress=bar
            )
        finished = scratch / "finished"
        predict_values(teacher.model, data.task.units)
        save_model(teacher.model, teacher.tokenizer, finished)
        os.rename(finished, output)
        shutil.rmtree(scratch)
    found = teacher_scores(teacher, data, max_length)
    why = teacher_doubt(
        standing(data.task, data.labels("validation"), "validation", found["validation"])
    )
    if why is not None:
        display.warn(why)
    return {name: by_metric[data.task.metric] for name, by_metric in found.items()}
