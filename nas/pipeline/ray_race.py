"""A race on a Ray cluster: those in it learn side by side, each in a process of its own."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import ray
import torch
from ray.exceptions import RayError

from nas.cluster.connection import in_one_line, join
from nas.cluster.options import RayOptions
from nas.pipeline.guide import Guide
from nas.pipeline.learning import EncodedTask
from nas.pipeline.recipe import Recipe
from nas.pipeline.request import Lesson
from nas.pipeline.rung import LEARNER, OUTCOME, LocalRungRunner, Rung
from nas.pipeline.student_training import StudentTraining
from nas.settings import hide_gpus
from nas.terminal.progress import Display
from supernet.errors import NasError
from supernet.model import Supernet

_Files = dict[str, bytes]


@dataclass(frozen=True)
class _Setting:
    """What every process needs of a race; the teacher's units stand as they do here.

    Args:
        teacher: its folder.
    """

    teacher: Path
    task: EncodedTask
    supernet: Supernet
    recipe: Recipe
    seed: int

    def runner(self) -> LocalRungRunner:
        """What runs rungs in this process."""
        display = Display()
        guide = Guide(self.teacher, self.task, self.recipe, self.seed, display, self.supernet)
        return LocalRungRunner(
            StudentTraining(guide, self.task, self.recipe.distill, self.seed, display)
        )


class RayRungRunner:
    """Runs rungs as Ray tasks, side by side as there is room.

    What a process has read with the teacher serves all rungs that it runs. A rung whose process or
    node dies is run again, elsewhere. With as many threads, every process finds the same.

    Args:
        teacher: its folder.
        guide: the same teacher, which has been read here.
        options: how much of the cluster a racer takes, where, and how often a rung is tried.

    Raises:
        NasError: no cluster answers at the address.
    """

    def __init__(
        self,
        teacher: Path,
        task: EncodedTask,
        guide: Guide,
        lesson: Lesson,
        options: RayOptions,
        display: Display,
    ) -> None:
        self._display, self._options = display, options
        self._joined = join(options.address)
        setting = _Setting(teacher, task, guide.supernet, lesson.recipe, lesson.seed)
        self._setting = ray.put(setting)
        self._waiting: deque[Rung] = deque()
        self._running: dict[Rung, ray.ObjectRef[_Files]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for begun in self._running.values():
            ray.cancel(begun, force=True)
        if self._joined:
            ray.shutdown()

    def announce(self, rungs: Sequence[Rung]) -> None:
        """See :class:`nas.pipeline.rung.RungRunner`."""
        self._waiting.extend(rungs)
        self._begin()

    def run(self, rung: Rung, folder: Path) -> None:
        """See :class:`nas.pipeline.rung.RungRunner`.

        Raises:
            NasError: the rung failed, however often it was tried.
        """
        if rung not in self._running:
            self._running[rung] = self._begun(rung)
        what = "Fit" if rung.stage is None else f"Race, {rung.stage.name}:"
        with self._display.bar(f"{what} {rung.architecture} on the cluster"):
            try:
                files = ray.get(self._running.pop(rung))
            except RayError as error:
                raise NasError(
                    f"{rung.architecture} failed on the cluster: {in_one_line(error)}"
                ) from error
        for name, content in files.items():
            (folder / name).write_bytes(content)
        self._begin()

    def _begin(self) -> None:
        """Begin what waits, no more at once than there may be workers."""
        most = self._options.workers
        while self._waiting and (most is None or len(self._running) < most):
            rung = self._waiting.popleft()
            self._running[rung] = self._begun(rung)

    def _begun(self, rung: Rung) -> ray.ObjectRef[_Files]:
        options, run = self._options, cast(Any, _run)  # Ray's types miss what it decorates
        run = run.options(
            num_cpus=options.cpus, num_gpus=options.gpus, max_retries=options.attempts - 1
        )
        before = None if rung.before is None else (rung.before / LEARNER).read_bytes()
        begun: ray.ObjectRef[_Files] = run.remote(
            [self._setting], replace(rung, before=None), before, options.threads, options.gpus > 0
        )
        return begun


_runners: dict[Any, LocalRungRunner] = {}
"""Of this process, by the race's setting: the one that it was last asked for."""


@ray.remote
def _run(
    setting: list[ray.ObjectRef[_Setting]],
    rung: Rung,
    before: bytes | None,
    threads: int,
    on_gpu: bool,
) -> _Files:
    """The cluster's side of a rung.

    Args:
        setting: in a list, so that Ray does not fetch it for each rung anew.
        before: the learner's state that the racer goes on from.
    """
    if not on_gpu:
        hide_gpus()
    torch.set_num_threads(threads)
    if setting[0] not in _runners:
        _runners.clear()
        _runners[setting[0]] = ray.get(setting[0]).runner()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if before is not None:
            earlier = folder / "before"
            earlier.mkdir()
            (earlier / LEARNER).write_bytes(before)
            rung = replace(rung, before=earlier)
        _runners[setting[0]].run(rung, folder)
        return {name: (folder / name).read_bytes() for name in (LEARNER, OUTCOME)}
