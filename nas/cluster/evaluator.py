"""Scores architectures on a Ray cluster whose workers and nodes may die, hang, come and go."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

import ray

from nas.cluster.connection import in_one_line, join
from nas.cluster.options import RayOptions
from nas.cluster.worker import Candidate, Worker
from nas.search.evaluator import Failed, Outcome
from supernet.architecture import Architecture
from supernet.errors import NasError

if TYPE_CHECKING:  # it takes torch, which a driver may do without
    from nas.pipeline.scoring import Scorer

QUEUED = 2
"""Candidates of a worker: the next is there when one ends, and few are lost with it."""

_LOOK_S = 1.0
"""How often the cluster is looked at for room."""


class RayEvaluator:
    """An :class:`nas.search.evaluator.Evaluator` whose scoring processes are Ray actors.

    The scorer goes once into the object store, and from there once to each node; the processes of
    a node share its arrays. A candidate whose process dies, raises or takes too long is scored
    again, on another node where there is one, and the process is replaced: a GPU that failed once
    may fail every later call. What merely waited in that process has not failed.

    Args:
        scorer: built in each process.
        options: see there.
        warn: receives one line for each process that is lost.

    Raises:
        NasError: no cluster answers at the address.

    Example:
        with RayEvaluator(scorer, RayOptions("auto", gpus=0.25)) as evaluator:
            evaluator.submit(architectures)
            architecture, score = evaluator.next()
    """

    def __init__(
        self,
        scorer: Scorer,
        options: RayOptions = RayOptions(),
        warn: Callable[[str], None] = logging.getLogger(__name__).warning,
    ) -> None:
        self._options, self._warn = options, warn
        self._joined = join(options.address)
        self._scorer = ray.put(scorer)
        self._workers: dict[Worker, None] = {}  # in their order, as a set that is a dict
        self._waiting: deque[Candidate] = deque()
        self._scored: deque[tuple[Architecture, Outcome]] = deque()
        self._ended: SimpleQueue[tuple[Worker, Future[Any]]] = SimpleQueue()
        self._look_again_s = 0.0
        self._failed_starts: list[str] = []  # since the last that succeeded
        self._lonely_since_s = time.monotonic()  # when last a worker was ready
        self._keep_workers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, architectures: Sequence[Architecture]) -> None:
        self._waiting.extend(map(Candidate, architectures))
        self._assign()

    def next(self) -> tuple[Architecture, Outcome]:
        """Wait for one that is ready.

        Raises:
            NasError: no worker was placed for too long, or none could start.
        """
        while not self._scored:
            assert self._waiting or any(w.candidates for w in self._workers), "nothing submitted"
            self._keep_workers()
            self._take_ended()
            self._replace_hung()
            self._assign()
        return self._scored.popleft()

    def close(self) -> None:
        """Free the cluster; one that was running before is left running."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        if self._joined:
            ray.shutdown()

    # ---- workers ---------------------------------------------------------------------------------

    def _keep_workers(self) -> None:
        """Start those that are missing, and complain where none can be had."""
        now = time.monotonic()
        if any(worker.node for worker in self._workers):
            self._lonely_since_s = now
        if now < self._look_again_s:
            return
        self._look_again_s = now + _LOOK_S
        wanted = self._options.workers or self._room()
        if len(self._failed_starts) >= self._options.attempts * wanted:
            if any(worker.node for worker in self._workers):
                return  # some nodes serve: go on with those
            raise NasError(f"no Ray worker could start: {self._failed_starts[-1]}")
        if now - self._lonely_since_s > self._options.placement_s:
            raise NasError(
                f"no Ray worker was placed within {self._options.placement_s:g} s: each asks for "
                f"{_shown(self._options.resources)}; the cluster has "
                f"{_shown(ray.cluster_resources())}, of which free "
                f"{_shown(ray.available_resources())}"
            )
        while len(self._workers) < wanted:
            worker = Worker(self._scorer, self._options)
            self._workers[worker] = None
            self._report_end(worker, worker.ready)

    def _room(self) -> int:
        """How many workers there may be, by what is free: one at least, to ask for it."""
        held = len(self._workers)
        if any(worker.node is None for worker in self._workers):
            return held  # where the starting ones go is not known yet
        free = ray.available_resources()
        return max(
            1,
            held + min(int(free.get(n, 0) / need) for n, need in self._options.resources.items()),
        )

    def _report_end(self, worker: Worker, future: Future[Any]) -> None:
        future.add_done_callback(lambda ended: self._ended.put((worker, ended)))

    def _lose(self, worker: Worker, reason: str) -> None:
        """Go on without a worker; what it was scoring has failed once more."""
        del self._workers[worker]
        worker.kill()
        if worker.node is None:
            self._failed_starts.append(reason)
            self._warn(f"a Ray worker did not start: {reason}")
            return
        self._take_scores(worker)  # those that came before the loss
        self._warn(f"a Ray worker on node {worker.node[:8]} is replaced: {reason}")
        unfinished = []
        for candidate, score in worker.candidates:  # those behind one that raised may have ended
            if score.done() and score.exception() is None:
                self._scored.append((candidate.architecture, score.result()))
            else:
                unfinished.append(candidate)
        if unfinished:
            failed = unfinished[0]
            failed.failed_on.append(worker.node)
            if len(failed.failed_on) >= self._options.attempts:
                self._scored.append((failed.architecture, Failed(reason)))
                unfinished.pop(0)
        self._waiting.extendleft(reversed(unfinished))

    # ---- candidates ------------------------------------------------------------------------------

    def _assign(self) -> None:
        """Give every worker a candidate before any is given a second."""
        for queued in range(QUEUED):
            for worker in self._workers if self._waiting else ():
                if worker.node is not None and len(worker.candidates) == queued:
                    candidate = self._candidate_for(worker.node)
                    if candidate is not None:
                        if not queued:
                            worker.begun_s = time.monotonic()
                        self._report_end(worker, worker.give(candidate))

    def _candidate_for(self, node: str) -> Candidate | None:
        """The first that waits, unless it failed on this node and there are others to try."""
        for index, candidate in enumerate(self._waiting):
            if node not in candidate.failed_on or self._nodes() <= {*candidate.failed_on}:
                del self._waiting[index]
                return candidate
        return None

    def _nodes(self) -> set[str]:
        return {worker.node for worker in self._workers if worker.node is not None}

    def _take_ended(self) -> None:
        """Wait for a worker to end something, or for the time to look at all of them."""
        ended: list[tuple[Worker, Future[Any]]] = []
        with suppress(Empty):
            ended.append(self._ended.get(timeout=_LOOK_S))
            while True:
                ended.append(self._ended.get_nowait())
        for worker, future in ended:
            if worker not in self._workers:
                continue  # lost meanwhile
            error = future.exception()
            if error is not None:
                self._lose(worker, in_one_line(error))
            elif future is worker.ready:
                worker.node = future.result()
                self._failed_starts.clear()
            else:
                self._take_scores(worker)

    def _take_scores(self, worker: Worker) -> None:
        while worker.candidates:
            candidate, score = worker.candidates[0]
            if not score.done() or score.exception() is not None:
                return
            worker.candidates.popleft()
            worker.begun_s = time.monotonic()
            self._scored.append((candidate.architecture, score.result()))

    def _replace_hung(self) -> None:
        began_before_s = time.monotonic() - self._options.timeout_s
        for worker in list(self._workers):
            if worker.candidates and worker.begun_s < began_before_s:
                self._lose(worker, f"TimeoutError: not scored within {self._options.timeout_s:g} s")


def _shown(resources: dict[str, float]) -> str:
    return ", ".join(f"{resources.get(n, 0):g} {n}" for n in ("CPU", "GPU") if n in resources)
