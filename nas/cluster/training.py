"""A supernet trained on a Ray cluster, by the trainer that trains it in one process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import ray
from ray.train import (
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    get_context,
)
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from safetensors.torch import load_model, save_model
from torch import Tensor
from torch.utils.data import Dataset

from nas.cluster.connection import ctrl_c_kept
from nas.settings import hide_gpus
from supernet.errors import NasError, check_number
from supernet.model import Supernet
from supernet.sandwich import SandwichTrainer
from supernet.sandwich_settings import SandwichSettings
from supernet.space import SearchSpace
from supernet.training import EpochsSampler, Progress, check_shared

WEIGHTS = "trained.safetensors"
TOKEN = "token"  # noqa: S105 (a name, no secret)


def train_distributed(
    supernet: Supernet,
    teacher: Supernet,
    space: SearchSpace,
    data: Dataset[Any],
    collate: Callable[[list[Any]], dict[str, Tensor]],
    settings: SandwichSettings,
    folder: Path,
    *,
    seed: int,
    workers: int,
    cpus: int = 1,
    gpus: int = 0,
    restarts: int = 3,
    progress: Progress | None = None,
    checkpoint_every: float = 60.0,
) -> None:
    """Train a supernet as :class:`SandwichTrainer` does, on several workers at once.

    The workers share each batch, so the training takes the steps of one process over the same
    examples. When a worker dies, all are started again and go on from the last checkpoint; so does
    a training that is called again with the same folder.

    Args:
        supernet, teacher, space, data, collate, settings, seed, progress, checkpoint_every: as in
            :class:`SandwichTrainer`. They travel to the workers, so they must be picklable.
        folder: on storage that this process and all workers see under the same path.
        workers: processes that learn together.
        cpus, gpus: of each worker; without GPUs they learn on CPUs.
        restarts: how often the workers may be started again.

    Raises:
        NasError: a number out of range, a batch that the workers cannot share, a folder that they
            do not, or a training that failed more often than it may be started again.
    """
    for name, value, low in (
        ("workers", workers, 1), ("cpus", cpus, 1), ("gpus", gpus, 0), ("restarts", restarts, 0),
    ):  # fmt: skip
        check_number(name, value, low, whole=True)
    sampler = EpochsSampler(data.lengths, settings.training, seed)  # type: ignore[attr-defined]
    check_shared(sampler.batch_size, workers)

    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex
    (folder / TOKEN).write_text(token)
    with _called_here(progress) as report:
        lesson = (supernet, teacher, space, data, collate, settings, folder)
        options = {"seed": seed, "checkpoint_every": checkpoint_every}
        trainer = TorchTrainer(
            _train,
            train_loop_config={
                "lesson": ray.put(lesson), "options": options, "token": token, "progress": report,
                "on_gpu": gpus > 0,
            },
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": cpus} | ({"GPU": gpus} if gpus else {}),
            ),
            run_config=RunConfig(  # type: ignore[call-arg]  # typed as of Ray Train's version 1
                name="ray",
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=restarts),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )  # fmt: skip
        try:
            with ctrl_c_kept():
                trainer.fit()
        except TrainingFailedError as error:
            raise NasError(f"training on the cluster failed: {_reason(error)}") from error
    load_model(supernet, folder / WEIGHTS)


def _train(config: dict[str, Any]) -> None:
    """What each worker does."""
    if not config["on_gpu"]:
        hide_gpus()
    lesson = ray.get(config["lesson"])
    folder = lesson[-1]
    token = folder / TOKEN
    if not token.exists() or token.read_text() != config["token"]:
        raise NasError(f"folder {folder} must be on storage that all workers share")
    first = get_context().get_world_rank() == 0
    trainer = SandwichTrainer(
        *lesson, **config["options"], progress=config["progress"] if first else None
    )
    trainer.run()
    if first:
        save_model(lesson[0], folder / WEIGHTS)


@contextmanager
def _called_here(progress: Progress | None) -> Iterator[Progress | None]:
    """A callable for workers that has ``progress`` called in this process."""
    if progress is None:
        yield None
        return
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def call() -> None:
        for done, total in iter(queue.get, None):
            progress(done, total)

    thread = Thread(target=call, daemon=True)
    thread.start()
    try:
        yield lambda done, total: queue.put((done, total))
    finally:
        queue.put(None)
        thread.join()
        queue.shutdown()


def _reason(error: TrainingFailedError) -> str:
    """The last line of what went wrong first: that of an exception's traceback."""
    failures = getattr(error, "worker_failures", {})
    return str(next(iter(failures.values()), error)).strip().splitlines()[-1]
