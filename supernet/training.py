"""The training loop that all trainings share: ``transformers.Trainer``, made exactly resumable.

A run killed at any moment and started again ends with the same weights as an undisturbed one: the
order of examples is a function of the seed alone, and only complete checkpoints are resumed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from supernet.errors import NasError
from supernet.training_settings import TrainingSettings

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""

BEST = "best.safetensors"
"""In a training's folder: the weights that scored best so far."""

GROUPED_BATCHES = 50
"""Batches of similar length are cut from this many batches' worth of shuffled examples."""


class EpochsSampler(Sampler[int]):
    """The examples of all epochs, each epoch shuffled, in batches of similar length.

    Padding costs little when a batch's texts are of one length. The last, incomplete batch of an
    epoch is left out; the shuffle leaves out others each time.

    Args:
        lengths: of each example, in tokens.
    """

    def __init__(self, lengths: Sequence[int], settings: TrainingSettings, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = min(settings.batch_size, len(self.lengths))
        self.seed = seed
        batches = len(self.lengths) // self.batch_size
        self.steps = (settings.epochs or 0) * batches if settings.steps is None else settings.steps
        self.epochs = -(-self.steps // batches)

    def __len__(self) -> int:
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        left = len(self)
        for epoch in range(self.epochs):
            rows = self._epoch(np.random.default_rng((self.seed, epoch))).tolist()[:left]
            left -= len(rows)
            yield from rows

    def _epoch(self, rng: np.random.Generator) -> np.ndarray[Any, Any]:
        batches = len(self.lengths) // self.batch_size
        order = rng.permutation(len(self.lengths))[: batches * self.batch_size]
        group = GROUPED_BATCHES * self.batch_size
        for start in range(0, len(order), group):
            part = order[start : start + group]
            order[start : start + group] = part[np.argsort(self.lengths[part], kind="stable")]
        return rng.permutation(order.reshape(batches, self.batch_size)).ravel()


@dataclass(frozen=True)
class Watch:
    """Has a training end with the weights that scored best, those it began with included.

    Args:
        score: of what is trained as it stands, in evaluation mode; higher is better.
        every: steps between two scores; the last step's weights are scored too.
        patience: so many scores in a row without a gain end the training; None for never.
        minutes: that this process trains for at the most. A training that this bound ends is not
            the same each time.
    """

    score: Callable[[], float]
    every: int
    patience: int | None = None
    minutes: float | None = None


def computes_in_bfloat16() -> bool:
    """Whether matrix products in bfloat16 are native here, and so a few times faster.

    Trainings then run them in bfloat16, with weights, sums and losses in float32.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of newer versions
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


class ResumableTrainer(Trainer):
    """A Trainer that resumes exactly and reports its progress to a callable.

    Several processes (of torchrun, of Ray Train) share each batch, so a training takes the same
    steps over the same examples whatever their number.

    Args:
        model: what learns.
        data: items of token lists; a ``lengths`` attribute gives their lengths.
        collate: items to a batch of tensors.
        folder: where checkpoints stand, in ``checkpoints/``.
        seed: of the order of examples and of all chance in a step.
        watch: which weights to end with; None for the last.
        checkpoint_every: seconds between checkpoints.

    Raises:
        NasError: processes that cannot share a batch equally.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset[Any],
        collate: Callable[[list[Any]], dict[str, torch.Tensor]],
        settings: TrainingSettings,
        folder: Path,
        *,
        seed: int,
        watch: Watch | None = None,
        progress: Progress | None = None,
        checkpoint_every: float = 60.0,
    ) -> None:
        self.settings = settings
        self.best = folder / BEST
        self.checkpoints = folder / "checkpoints"
        assert isinstance(data, Sized)
        self.sampler = EpochsSampler(data.lengths, settings, seed)  # type: ignore[attr-defined]
        arguments = TrainingArguments(
            output_dir=str(self.checkpoints),
            num_train_epochs=1,  # one pass over the sampler, which holds all epochs
            per_device_train_batch_size=self.sampler.batch_size,
            accelerator_config={"split_batches": True},
            use_cpu=not torch.accelerator.is_available(),  # else processes without one do not meet
            warmup_steps=round(settings.warmup * self.sampler.steps),
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.schedule,
            bf16=settings.precision == "auto" and computes_in_bfloat16(),
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            save_strategy="no",  # by the clock, see below
            save_total_limit=2,
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=seed,
            remove_unused_columns=False,
            label_names=["labels"],
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        check_shared(self.sampler.batch_size, arguments.world_size)
        # One process takes one device; more take part through torchrun. By itself the Trainer
        # would split batches over all devices it sees, which multiplies the batch size.
        arguments._n_gpu = min(1, arguments.n_gpu)
        callbacks: list[TrainerCallback] = [_CheckpointByClock(checkpoint_every)]
        self.watch = watch
        if watch is not None:
            callbacks.insert(0, _KeepBest(self, watch))
        if progress is not None:
            callbacks.append(_ReportProgress(progress))
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=data,
            data_collator=collate,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)  # which the absence of a bar puts in

    def run(self) -> None:
        """Train to the end, from the last complete checkpoint where there is one."""
        # What the first process sees counts for all: a shared disk may show it to others later.
        last = broadcast_object_list([last_checkpoint(self.checkpoints)])[0]
        try:
            self.train(resume_from_checkpoint=None if last is None else str(last))
        finally:  # what Accelerate has put around the model's forward is for this training alone
            for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
                self.model.__dict__.pop(name, None)
        if self.watch is not None:
            self.model.load_state_dict(load_file(self.best))

    def step_rng(self) -> np.random.Generator:
        """Chance for the step at hand: by seed, step and rank, hence the same after a resume."""
        return np.random.default_rng(
            (self.args.seed, self.state.global_step, self.args.process_index)
        )

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        return self.sampler


def check_shared(batch_size: int, processes: int) -> None:
    """Refuse a number of processes that cannot share a batch equally.

    Raises:
        NasError: naming both, and what is accepted.
    """
    if batch_size % processes:
        raise NasError(
            f"batch_size must be a multiple of the {processes} processes that share a batch, "
            f"not {batch_size}"
        )


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint: the Trainer writes its state last, after the weights."""

    def step(checkpoint: Path) -> int:
        return int(checkpoint.name.rpartition("-")[2])

    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step, reverse=True):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        return checkpoint
    return None


class _CheckpointByClock(TrainerCallback):
    """Saves when the first process's clock says so: all processes must, in the same step."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        due = [time.monotonic() - self.last >= self.every]
        control.should_save = control.should_save or broadcast_object_list(due)[0]

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.last = time.monotonic()


@dataclass(frozen=True)
class Best:
    """When a training's weights scored best, and how well."""

    step: int
    score: float

    @classmethod
    def read(cls, path: Path) -> Best | None:
        """Of :data:`BEST` in a training's folder; None before the first score."""
        if not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            told = file.metadata()
        return cls(int(told["step"]), float(told["score"]))


class _KeepBest(TrainerCallback):
    """Scores the model now and then, and keeps the best weights in one file.

    That file is all the state there is: after a kill the same steps score the same again.
    """

    def __init__(self, trainer: ResumableTrainer, watch: Watch) -> None:
        self.trainer = trainer
        self.watch = watch
        self.began = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if Best.read(self.trainer.best) is None:
            self._look(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        watch, step = self.watch, state.global_step
        if step % watch.every and step != state.max_steps:
            return
        best = self._look(step)
        stale = (step - best.step) / watch.every
        minutes = (time.monotonic() - self.began) / 60
        if (watch.patience is not None and stale >= watch.patience) or (
            watch.minutes is not None and minutes >= watch.minutes
        ):
            control.should_training_stop = True

    def _look(self, step: int) -> Best:
        """Score the model; the best so far."""
        model, path = self.trainer.model, self.trainer.best
        model.eval()
        with self.trainer.accelerator.autocast():
            score = self.watch.score()
        model.train()
        best = Best.read(path)
        if best is not None and score <= best.score:
            return best
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        told = {"step": str(step), "score": repr(score)}
        save_file(model.state_dict(), scratch, metadata=told)
        os.replace(scratch, path)
        return Best(step, score)


class _ReportProgress(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress(state.global_step, state.max_steps)
