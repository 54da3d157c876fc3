"""Fine-tuning a teacher until it has learnt its task."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from nas.data.tokenization import EncodedExamples
from nas.models.evaluate import Collate, score
from nas.models.finetune_settings import FinetuneSettings
from supernet.training import BEST, Best, Progress, ResumableTrainer, Watch
from supernet.training_settings import Schedule, TrainingSettings


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

    def learn(
        name: str, steps: int, schedule: Schedule, warmup: float, patience: int | None
    ) -> Best:
        ResumableTrainer(
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
            watch=Watch(watched, max(1, epoch // settings.checks), patience, settings.minutes),
            progress=progress,
        ).run()
        best = Best.read(folder / name / BEST)
        assert best is not None, "the weights a training begins with are scored"
        return best

    steps = settings.epochs * epoch
    warmup = settings.warmup * epoch / steps
    best = learn("constant", steps, "constant_with_warmup", warmup, settings.patience)
    learn("decay", max(epoch, round(settings.decay * best.step)), "linear", 0.0, None)
    model.eval()
