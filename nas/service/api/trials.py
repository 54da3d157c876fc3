"""An uploaded teacher tried on data: ``POST /v1/teachers/{name}:try``."""

from __future__ import annotations

from pathlib import Path as FilePath

from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel, Field

from nas.service.api.auth import Submitter, The
from nas.service.api.bodies import strict_router
from nas.service.api.owned import find
from nas.service.api.problems import ProblemError, described
from nas.service.api.uploads import UploadName
from nas.service.searches.requests import Column, MetricName
from nas.service.service import Service
from nas.service.settings import Name
from nas.service.uploads.kept import begin_arrival
from nas.service.uploads.sandbox import run_confined
from nas.service.uploads.trial import try_teacher
from supernet.errors import NasError

router = strict_router("uploads")

TRIALS = CapacityLimiter(1)
"""Trials take turns of their own, so that they hold up no upload."""


class Trial(
    BaseModel, extra="forbid", json_schema_extra={"example": {"data": "reviews", "labels": None}}
):
    """Uploaded data to try a teacher on, read as a search would read them."""

    data: Name
    text_columns: tuple[Column, ...] | None = Field(default=None, min_length=1, max_length=2)
    label_column: Column = "label"
    metric: MetricName | None = None
    labels: tuple[Column, ...] | None = Field(default=None, min_length=2, max_length=10_000)


class Tried(BaseModel):
    """What a teacher scores on some validation examples, before anything is trained."""

    data: list[str] = Field(description="What was read of the data, and what may be amiss.")
    metric: str
    score: float | None = Field(description="null where a search trains a new head.")
    baseline_score: float = Field(description="Of the constant answer that scores best.")
    examples: int = Field(description="Of validation, that were read: 200 at most.")
    doubt: str | None = Field(
        description="What speaks against the head: a search with it would be refused."
    )


@router.post("/teachers/{name}:try", responses=described(404))
async def try_on_data(name: UploadName, trial: Trial, caller: Submitter, service: The) -> Tried:
    """Score an uploaded teacher on uploaded data, as a search would read both. It takes up to a
    minute or two of one core, and changes nothing.
    """
    await to_thread.run_sync(find, service, caller, "teacher", name)
    await to_thread.run_sync(find, service, caller, "dataset", trial.data)
    teacher = str(service.folder("teachers") / name)
    data = str(service.folder("datasets") / trial.data)
    return await to_thread.run_sync(_try, service, teacher, data, trial, limiter=TRIALS)


def _try(service: Service, teacher: str, data: str, trial: Trial) -> Tried:
    try:
        with begin_arrival(service) as folder:
            told = run_confined(
                try_teacher,
                teacher,
                data,
                trial.text_columns,
                trial.label_column,
                trial.metric,
                trial.labels,
                folder=FilePath(folder),
            )
    except NasError as error:
        # Where things lie is the service's own affair.
        text = str(error).replace(f"{service.settings.data}/", "")
        raise ProblemError(422, text) from error
    return Tried.model_validate(told)
