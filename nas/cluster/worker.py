"""A process on a Ray cluster that scores one architecture after the other."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

from nas.cluster.options import RayOptions
from nas.settings import hide_gpus
from supernet.architecture import Architecture

if TYPE_CHECKING:  # it takes torch, which is slow to import where a test's scorer needs none
    from nas.pipeline.scoring import Scorer


@ray.remote(max_restarts=0, max_task_retries=0)
class _Process:
    """The cluster's side of a worker."""

    def __init__(self, scorer: Scorer, threads: int, on_gpu: bool) -> None:
        if not on_gpu:
            hide_gpus()
        import torch

        torch.set_num_threads(threads)
        self._score = scorer.build()

    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def score(self, architecture: Architecture) -> float:
        return float(self._score(architecture))


@dataclass(eq=False)
class Candidate:
    """An architecture to score, and where it has failed.

    Args:
        failed_on: nodes, one for each attempt.
    """

    architecture: Architecture
    failed_on: list[str] = field(default_factory=list)


class Worker:
    """The driver's side of a scoring process.

    Attributes:
        ready: done when the scorer stands there; its result is the node's id.
        node: where it runs; None until it is ready.
        candidates: given and unfinished, the first of them being scored.
        begun_s: when that began, by the clock of whoever sets it.
    """

    def __init__(self, scorer: ray.ObjectRef[Scorer], options: RayOptions) -> None:
        actor: Any = _Process  # Ray's types do not know what its decorator adds
        self._process = actor.options(num_cpus=options.cpus, num_gpus=options.gpus).remote(
            scorer, options.threads, options.gpus > 0
        )
        self.ready: Future[str] = self._process.node.remote().future()
        self.node: str | None = None
        self.candidates: deque[tuple[Candidate, Future[float]]] = deque()
        self.begun_s = 0.0

    def give(self, candidate: Candidate) -> Future[float]:
        """Score a candidate after those given before."""
        score: Future[float] = self._process.score.remote(candidate.architecture).future()
        self.candidates.append((candidate, score))
        return score

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        ray.kill(self._process)
