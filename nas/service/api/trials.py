"""An uploaded teacher tried on data: ``POST /v1/teachers/{name}:try``."""

from __future__ import annotations

from pathlib import Path as FilePath

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from nas.service.access.tokens import Caller
from nas.service.api.auth import Submitter, The
from nas.service.api.bodies import StrictRoute
from nas.service.api.operation_ids import by_name
from nas.service.api.problems import ProblemError, described
from nas.service.api.uploads import UploadName, seen_upload
from nas.service.searches.requests import Column, Metric
from nas.service.service import Service, UploadKind
from nas.service.settings import Name
from nas.service.uploads.kept import begin_arrival
from nas.service.uploads.sandbox import run_confined
from nas.service.uploads.trial import try_teacher
from supernet.errors import NasError

router = APIRouter(
    prefix="/v1",
    route_class=StrictRoute,
    tags=["uploads"],
    responses=described(401, 403, 422, 429),
    generate_unique_id_function=by_name,
)

TRIALS = CapacityLimiter(1)
"""Trials take turns of their own, so that they hold up no upload."""


class Trial(BaseModel):
    """Uploaded data to try a teacher on, read as a search would read them."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"data": "reviews", "labels": None}}
    )

    data: Name
    text_columns: tuple[Column, ...] | None = Field(default=None, min_length=1, max_length=2)
    label_column: Column = "label"
    metric: Metric | None = None
    labels: tuple[Column, ...] | None = Field(default=None, min_length=2, max_length=10_000)


class Tried(BaseModel):
    """What a teacher scores on some validation examples, before anything is trained."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "data": ["reviews: 810 + 90 + 100 examples (train, validation, test), accuracy"],
                "metric": "accuracy",
                "score": 0.93,
                "baseline_score": 0.52,
                "examples": 90,
                "doubt": None,
            }
        }
    )

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
    teacher = await to_thread.run_sync(_folder_of, service, caller, "teacher", name)
    data = await to_thread.run_sync(_folder_of, service, caller, "dataset", trial.data)
    return await to_thread.run_sync(_try, service, teacher, data, trial, limiter=TRIALS)


def _folder_of(service: Service, caller: Caller, kind: UploadKind, name: str) -> str:
    """Where an upload lies that a caller may see."""
    seen_upload(service, caller, kind, name)
    return str(service.folder(f"{kind}s") / name)


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
