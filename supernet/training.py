"""The training loop of all trainings: ``transformers.Trainer``, made exactly resumable.

A run that is killed at any moment and started again ends with the same weights as an undisturbed
run: the order of examples depends on the seed only, and only complete checkpoints are resumed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, replace
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
"""Called with the number of steps done, and the number of all steps."""

BEST = "best.safetensors"
"""File in a training's folder with the weights that scored best so far."""

GROUPED_BATCHES = 50
"""Shuffled examples are sorted by length within groups of so many batches."""


class EpochsSampler(Sampler[int]):
    """The examples of all epochs, each epoch shuffled, in batches of similar length.

    Texts of similar length in a batch need little padding. The last, incomplete batch of an epoch
    is left out; it has other examples in each epoch.

    Args:
        lengths: tokens of each example.
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
    """Makes a training end with the weights that scored best, the first weights included.

    Args:
        score: returns the score of the model as it is, in evaluation mode; higher is better.
        every: steps between two scores. The last step's weights are scored too.
        patience: number of scores without a gain, in a row, that end the training; None for never.
        least_gain: what scores must rise by, in one step or in several, to count as a gain.
        minutes: the longest that this process trains. A training that ends at this bound is not
            reproducible.
        first: the score of the first weights, where it is known; None: they are scored.
    """

    score: Callable[[], float]
    every: int
    patience: int | None = None
    least_gain: float = 0.0
    minutes: float | None = None
    first: float | None = None


def computes_in_bfloat16() -> bool:
    """Whether this machine computes matrix products in bfloat16, a few times faster than float32.

    Trainings then do so, with weights, sums and losses in float32. A processor's kind decides, and
    not a measurement, so that a training that goes on after a kill computes as before.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of newer versions
    # Without AMX, bfloat16 is two to three times as fast on an AMD EPYC, and takes 1.8 times as
    # long as float32 on an Intel Xeon, for products of these models' sizes.
    return bool(able.get("amx_bf16") or (able.get("avx512_bf16") and _made_by_amd()))


def _made_by_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


class ResumableTrainer(Trainer):
    """A Trainer that resumes exactly and reports its progress to a callable.

    Several processes (of torchrun or Ray Train) share each batch. So a training takes the same
    steps over the same examples for any number of processes.

    Args:
        model: the model to train.
        data: items of token lists; its ``lengths`` attribute gives their lengths.
        collate: makes a batch of tensors from items.
        folder: receives checkpoints, in ``checkpoints/``.
        seed: of the order of examples and of all chance in a step.
        watch: chooses the weights to end with; None ends with the last.
        checkpoint_every: seconds between checkpoints.

    Raises:
        NasError: the processes cannot share a batch equally.
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
            ddp_broadcast_buffers=False,  # all processes have the same
        )
        check_shared(self.sampler.batch_size, arguments.world_size)
        # One process uses one device; torchrun adds more. By default the Trainer would run a batch
        # on each device that it sees, which multiplies the batch size.
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
        self.remove_callback(PrinterCallback)  # the Trainer adds it when it shows no bar

    def run(self) -> None:
        """Train to the end, from the last complete checkpoint if there is one."""
        # All processes take what the first one finds: a shared disk may show it to others later.
        last = broadcast_object_list([last_checkpoint(self.checkpoints)])[0]
        try:
            self.train(resume_from_checkpoint=None if last is None else str(last))
        finally:  # remove what Accelerate put around the model's forward for this training
            for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
                self.model.__dict__.pop(name, None)
        if self.watch is not None:
            self.model.load_state_dict(load_file(self.best))

    def step_rng(self) -> np.random.Generator:
        """Random generator of the current step, from seed, step and rank: a resume repeats it."""
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
    """The newest complete checkpoint. The Trainer writes its state last, after the weights."""

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
    """Saves by the clock of the first process; all processes must save in the same step."""

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
    """The step at which a training's weights scored best, and the score.

    Args:
        gained: the last step at which the score had risen by enough to count as a gain.
        counted: the score there.
    """

    step: int
    score: float
    gained: int
    counted: float

    @classmethod
    def read(cls, path: Path) -> Best | None:
        """Read the file :data:`BEST` of a training's folder; None before the first score."""
        if not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            told = file.metadata()
        return cls(
            int(told["step"]), float(told["score"]), int(told["gained"]), float(told["counted"])
        )


class _KeepBest(TrainerCallback):
    """Scores the model at intervals, and keeps the best weights in one file.

    The file is the only state: after a kill the same steps score the same again.
    """

    def __init__(self, trainer: ResumableTrainer, watch: Watch) -> None:
        self.trainer = trainer
        self.watch = watch
        self.began = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if Best.read(self.trainer.best) is None:
            first = self.watch.first
            self._keep(state.global_step, self._score() if first is None else first)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        watch, step = self.watch, state.global_step
        if step % watch.every and step != state.max_steps:
            return
        best = self._keep(step, self._score())
        stale = (step - best.gained) / watch.every
        minutes = (time.monotonic() - self.began) / 60
        if (watch.patience is not None and stale >= watch.patience) or (
            watch.minutes is not None and minutes >= watch.minutes
        ):
            control.should_training_stop = True

    def _score(self) -> float:
        model = self.trainer.model
        model.eval()
        with self.trainer.accelerator.autocast():
            score = self.watch.score()
        model.train()
        return score

    def _keep(self, step: int, score: float) -> Best:
        """Keep the model's weights if they are the best, and return the best so far."""
        model, path = self.trainer.model, self.trainer.best
        best = Best.read(path)
        if best is not None and score <= best.score:
            return best
        if best is None or score - best.counted >= self.watch.least_gain:
            found = Best(step, score, gained=step, counted=score)
        else:
            found = replace(best, step=step, score=score)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        told = {name: repr(value) for name, value in asdict(found).items()}
        save_file(model.state_dict(), scratch, metadata=told)
        os.replace(scratch, path)
        return found


class _ReportProgress(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress(state.global_step, state.max_steps)
