"""A race on a Ray cluster: those in it learn side by side, each in a process of its own."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, cast

import ray
from ray.exceptions import RayError

from nas.cluster.connection import in_one_line, join
from nas.cluster.options import RayOptions
from nas.pipeline.guide import Guide
from nas.pipeline.learning import EncodedTask
from nas.pipeline.request import Lesson, Study
from nas.pipeline.rung import LEARNER, OUTCOME, Alone, Rung
from nas.settings import hide_gpus
from nas.store.workspace import Artifact, Workspace
from nas.terminal.progress import Display
from supernet.errors import NasError
from supernet.model import Supernet

_Files = dict[str, bytes]


@dataclass(frozen=True)
class _Ground:
    """What every process needs of a race; the teacher's units stand as they do here."""

    lesson: Lesson
    teacher: Artifact
    task: EncodedTask
    supernet: Supernet

    def crew(self, folder: Path) -> Alone:
        """Who climbs in this process."""
        study = Study(self.lesson, Workspace(folder), Display())
        return Alone(study, self.task, Guide(study, self.teacher, self.task, self.supernet))


class RayCrew:
    """A :class:`nas.pipeline.rung.Crew` of Ray tasks: what is announced begins as there is room.

    What a process has read with the teacher serves all rungs that it does. A rung whose process or
    node dies is done again, elsewhere. With as many threads, every process finds the same.

    Args:
        options: how much of the cluster a racer takes, where, and how often a rung is tried.

    Raises:
        NasError: no cluster answers at the address.
    """

    def __init__(
        self, run: Study, teacher: Artifact, task: EncodedTask, guide: Guide, options: RayOptions
    ) -> None:
        self._run, self._options = run, options
        self._joined = join(options.address)
        lesson = Lesson(**{one.name: getattr(run.request, one.name) for one in fields(Lesson)})
        self._ground = ray.put(_Ground(lesson, teacher, task, guide.supernet))
        self._waiting: deque[Rung] = deque()
        self._climbing: dict[Rung, ray.ObjectRef[_Files]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for begun in self._climbing.values():
            ray.cancel(begun, force=True)
        if self._joined:
            ray.shutdown()

    def announce(self, rungs: Sequence[Rung]) -> None:
        """See :class:`nas.pipeline.rung.Crew`."""
        self._waiting.extend(rungs)
        self._begin()

    def climb(self, rung: Rung, folder: Path) -> None:
        """See :class:`nas.pipeline.rung.Crew`.

        Raises:
            NasError: the rung failed, however often it was tried.
        """
        if rung not in self._climbing:
            self._climbing[rung] = self._begun(rung)
        what = "Fit" if rung.stage is None else f"Race, {rung.stage.name}:"
        with self._run.display.stage(f"{what} {rung.architecture} on the cluster"):
            try:
                files = ray.get(self._climbing.pop(rung))
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
        while self._waiting and (most is None or len(self._climbing) < most):
            rung = self._waiting.popleft()
            self._climbing[rung] = self._begun(rung)

    def _begun(self, rung: Rung) -> ray.ObjectRef[_Files]:
        options, climb = self._options, cast(Any, _climb)  # Ray's types miss what it decorates
        climb = climb.options(
            num_cpus=options.cpus, num_gpus=options.gpus, max_retries=options.attempts - 1
        )
        before = None if rung.before is None else (rung.before / LEARNER).read_bytes()
        begun: ray.ObjectRef[_Files] = climb.remote(
            [self._ground], replace(rung, before=None), before, options.threads, options.gpus > 0
        )
        return begun


_crews: dict[Any, tuple[Alone, tempfile.TemporaryDirectory[str]]] = {}
"""Of this process, by the ground: the one that it was last asked for."""


@ray.remote
def _climb(
    ground: list[ray.ObjectRef[_Ground]],
    rung: Rung,
    before: bytes | None,
    threads: int,
    on_gpu: bool,
) -> _Files:
    """The cluster's side of a rung.

    Args:
        before: the learner's state that the racer goes on from.
    """
    if not on_gpu:
        hide_gpus()
    import torch

    torch.set_num_threads(threads)
    if ground[0] not in _crews:
        _crews.clear()
        scratch = tempfile.TemporaryDirectory()
        _crews[ground[0]] = ray.get(ground[0]).crew(Path(scratch.name)), scratch
    crew, _ = _crews[ground[0]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if before is not None:
            earlier = folder / "before"
            earlier.mkdir()
            (earlier / LEARNER).write_bytes(before)
            rung = replace(rung, before=earlier)
        crew.climb(rung, folder)
        return {name: (folder / name).read_bytes() for name in (LEARNER, OUTCOME)}
