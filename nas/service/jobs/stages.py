"""The stages of a search, by name, as they run in a job's process."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latency.device import THIS_MACHINE, Device
from latency.target import Budget, Target
from nas.cluster.options import RayOptions
from nas.models.outline import suiting_space
from nas.pipeline.pipeline import STAGES, Pipeline
from nas.pipeline.recipe import Recipe
from nas.pipeline.request import Aim, Request, Resources
from nas.pipeline.stage import Workbench
from nas.service.access.tokens import Caller
from nas.service.access.visibility import is_visible
from nas.service.database.engine import engine_of, patiently
from nas.service.devices.remote_device import RemoteDevice
from nas.service.devices.targets import find_target
from nas.service.jobs.job import Job
from nas.service.jobs.reporting import ReportingDisplay, Tell
from nas.service.searches.lifecycle import find
from nas.service.searches.requests import (
    MODEL_STAGE,
    SearchRequest,
    server_targets,
    wanted_recipe,
    wanted_space,
)
from nas.service.searches.results import publish
from nas.service.service import NobodysQueue, Service
from nas.service.settings import ServiceSettings
from nas.service.uploads.kept import source, upload_folder
from nas.store.workspace import open_workspace
from nas.terminal.progress import silence
from supernet.errors import NasError


class Stages:
    """The stages of a search. Each runs when asked for, and finds what earlier processes finished.

    Args:
        tell: takes the events.
    """

    def __init__(self, job: Job, tell: Tell) -> None:
        silence()
        settings = ServiceSettings.model_validate_json(job.settings)
        self._service = Service(settings, engine_of(settings.database_url), NobodysQueue())
        self._request = SearchRequest.model_validate(job.request)
        self._job = job
        self._stage = ""
        self._display = ReportingDisplay(
            lambda kind, data: tell(
                kind, {"stage": self._stage, **data} if kind == "progress" else data
            ),
            settings.data,
        )
        self._pipeline: Pipeline | None = None

    def run(self, stage: str) -> dict[str, Any]:
        """Run a stage.

        Returns:
            For a model's stage, the model as lists show it; else an empty dictionary.

        Raises:
            NasError: what a user can mend.
        """
        self._stage = stage
        try:
            return self._run(stage)
        except NasError as error:
            raise NasError(self._display.inside(str(error))) from error

    def _run(self, stage: str) -> dict[str, Any]:
        if self._pipeline is None:
            self._pipeline = patiently(
                lambda: build_pipeline(self._service, self._job, self._display)
            )
        for device in measuring(self._pipeline.request.aims, stage):
            device.await_agent()  # before the workspace is locked: others wait for that lock
        with self._pipeline.bench.workspace.lock():
            if stage in STAGES:
                self._pipeline.finish(stage)
                return {}
            return self._model(_number(stage))

    def _model(self, number: int) -> dict[str, Any]:
        assert self._pipeline is not None
        place = self._service.folder("results") / self._job.search_id / str(number)
        remove_half_made(place.parent)
        output = Path(self._job.scratch) / "output"
        self._pipeline.develop(number, output)
        target, budget = self._request.goals[number]
        return publish(output, place, number=number, target=target, budget=budget)


def remove_half_made(results: Path) -> None:
    """Remove what a killed process has left in a search's results."""
    for entry in results.glob(".*"):
        shutil.rmtree(entry, ignore_errors=True)


def build_pipeline(service: Service, job: Job, display: ReportingDisplay) -> Pipeline:
    """The pipeline of a job's request.

    Raises:
        NasError: something that the request names has gone.
    """
    settings, wanted = service.settings, SearchRequest.model_validate(job.request)
    teacher = source(service, "teacher", wanted.teacher)
    recipe = _found_texts(service, wanted_recipe(service, wanted.recipe))
    memory = wanted.max_memory_mb
    workspace = open_workspace(settings.workspace_place, display.warn, patience_s=-1)
    cluster = None
    if settings.ray.address and recipe.search.evaluations >= settings.ray.from_evaluations:
        ray = settings.ray
        cluster = RayOptions(ray.address or "auto", ray.workers, ray.cpus, ray.gpus)
    name = wanted.supernet
    supernet = None if name is None else upload_folder(service, "supernet", name)
    places = {name: _place_of(service, job, name) for name in wanted.targets}
    request = Request(
        teacher=teacher,
        data=source(service, "dataset", wanted.data),
        recipe=recipe,
        text_columns=wanted.text_columns,
        label_column=wanted.label_column,
        metric=wanted.metric,
        labels=wanted.labels,
        seed=wanted.seed,
        aims=tuple(
            Aim(
                target=places[name][0],
                budget=Budget.parse(budget),
                device=places[name][1],
                max_parameters=wanted.max_parameters,
                max_memory_bytes=None if memory is None else round(memory * 1e6),
            )
            for name, budget in wanted.goals
        ),
        space=wanted_space(wanted.space) or suiting_space(teacher),
        supernet=supernet,
    )
    return Pipeline(request, Workbench(workspace, display), Resources(cluster=cluster))


def _found_texts(service: Service, recipe: Recipe) -> Recipe:
    """The recipe with the sources of its unlabelled texts in place of their names."""
    texts = source(service, "dataset", recipe.distill.texts)
    changed: dict[str, Any] = {"distill": recipe.distill.model_copy(update={"texts": texts})}
    if recipe.general is not None:
        texts = source(service, "dataset", recipe.general.texts)
        changed["general"] = recipe.general.model_copy(update={"texts": texts})
    return recipe.model_copy(update=changed)


def measuring(aims: Sequence[Aim], stage: str) -> list[RemoteDevice]:
    """The devices of the service on which a stage measures."""
    if stage == "profiles":
        concerned = aims
    elif stage in STAGES:
        concerned = ()
    else:
        concerned = [aims[_number(stage)]]
    found = [aim.device for aim in concerned if isinstance(aim.device, RemoteDevice)]
    return list({device.name: device for device in found}.values())


def _number(stage: str) -> int:
    return int(stage.removeprefix(MODEL_STAGE))


def _place_of(service: Service, job: Job, name: str) -> tuple[Target, Device]:
    """A target of the catalog, and where it is measured."""
    own = server_targets()
    if name in own:
        return own[name], THIS_MACHINE
    known, search = find_target(service.engine, name), find(service.engine, job.search_id)
    # A target that existed when the search was made was checked then. Since then another device
    # may have taken the name, and not everybody may use it.
    if known is None or (
        search is not None
        and known.created > search.created
        and not is_visible(
            service, Caller(search.owner, frozenset({"read"})), "target", known.owner, name
        )
    ):
        raise NasError(f"targets: {name!r} has gone")
    patience_s = service.settings.jobs.device_patience_s
    return known.target, RemoteDevice(
        service.engine, service.settings.data, name, job.search_id, job.attempt, patience_s
    )
