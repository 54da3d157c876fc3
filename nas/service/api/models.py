"""The models of a search that is done: ``/v1/searches/{id}/models``."""

from __future__ import annotations

import base64
import os
from contextlib import suppress
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import Path, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from nas.service.api.auth import Reader, The
from nas.service.api.bodies import strict_router
from nas.service.api.downloads import Download, is_known
from nas.service.api.problems import ProblemError, described
from nas.service.api.schemas import Model, Shape
from nas.service.api.searches import Known
from nas.service.searches.lifecycle import SearchRow
from nas.service.searches.results import ARCHIVE, PAGE, REPORT, read_report
from nas.service.service import Service

router = strict_router("models", 404)

Number = Annotated[int, Path(ge=0, le=200, description="The model's place among the goals.")]


class FrontPoint(BaseModel):
    """An architecture that nothing scored beats in both."""

    architecture: Shape
    latency_ms: float
    score: float


class Evaluation(FrontPoint):
    """An architecture that the search scored."""

    smoothed_score: float
    within_caps: bool


class Measured(BaseModel):
    """Latency and score, both measured."""

    latency_ms: float
    score: float


class Candidate(BaseModel):
    """An architecture that was timed on the target."""

    architecture: Shape
    predicted_ms: float
    measured_ms: float = Field(validation_alias="measured_p50_ms")
    met: bool


class Calibration(BaseModel):
    """A whole model by which the predictor was checked."""

    predicted_ms: float
    measured_ms: float


class Front(BaseModel):
    """What a search found, for plots."""

    metric: str
    percentile: int = Field(validation_alias="budget_percentile")
    budget_ms: float
    points: list[FrontPoint] = Field(validation_alias="front")
    evaluations: list[Evaluation]
    chosen: int | None
    model: Measured
    teacher: Measured
    candidates: list[Candidate]
    calibration: list[Calibration]
    predictor_errors: dict[str, Any]
    data_summary: dict[str, Any] | None = Field(
        default=None,
        description="What was read of the data, and what may be amiss; null in older reports.",
    )

    @classmethod
    def of(cls, report: dict[str, Any]) -> Front:
        """The part of a report that its plots show."""
        points = sorted(report["front"], key=lambda point: float(point["latency_ms"]))
        places = [point["architecture"] for point in points]
        chosen, percentile = report["architecture"], report["budget_percentile"]

        def measured(ms: str, score: str) -> dict[str, Any]:
            return {"latency_ms": report[f"{ms}_p{percentile}_ms"], "score": report[score]}

        return cls.model_validate(
            report
            | {
                "front": points,
                "chosen": places.index(chosen) if chosen in places else None,
                "model": measured("measured", "score"),
                "teacher": measured("teacher", "teacher_score"),
            }
        )


@router.get("/searches/{search_id}/models")
def list_models(_: Reader, search: Known) -> list[Model]:
    """The models of a search, one for each target and budget; none before it is done."""
    return [Model.model_validate(model) for model in search.models or ()]


@router.get("/searches/{search_id}/models/{number}")
def show_model(_: Reader, search: Known, number: Number) -> Model:
    """One model: what was asked, and what was measured."""
    models = list_models(_, search)
    if number >= len(models):
        raise ProblemError(404, f"search {search.id} has no model {number}")
    return models[number]


@router.get("/searches/{search_id}/models/{number}/front")
def show_front(_: Reader, search: Known, number: Number, service: The) -> Front:
    """The front of a model's search, and all that it was drawn from."""
    return Front.of(read_report(_place(service, search, number)))


@router.head("/searches/{search_id}/models/{number}/report.json", include_in_schema=False)
@router.get(
    "/searches/{search_id}/models/{number}/report.json",
    response_class=FileResponse,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
def download_report(_: Reader, search: Known, number: Number, service: The) -> FileResponse:
    """The report, as `nas search` writes it."""
    return Download(_place(service, search, number) / REPORT, media_type="application/json")


@router.head("/searches/{search_id}/models/{number}/report.html", include_in_schema=False)
@router.get(
    "/searches/{search_id}/models/{number}/report.html",
    response_class=FileResponse,
    responses={200: {"content": {"text/html": {}}}},
)
def show_report(_: Reader, search: Known, number: Number, service: The) -> FileResponse:
    """The report as one page, with its plots and without scripts."""
    return Download(_place(service, search, number) / PAGE, media_type="text/html")


@router.head("/searches/{search_id}/models/{number}/archive", include_in_schema=False)
@router.get(
    "/searches/{search_id}/models/{number}/archive",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/zip": {}}},
        206: {"description": "The range that was asked for.", "content": {"application/zip": {}}},
        304: {"description": "It is what `If-None-Match` names."},
        **described(410, 416),
    },
)
def download_archive(
    _: Reader, search: Known, number: Number, service: The, request: Request
) -> Response:
    """The model, its ONNX form and the reports, as a zip; `Range` continues a download.

    `ETag` is its sha256, and so is `Repr-Digest`.
    """
    model = show_model(_, search, number)
    path = _place(service, search, number) / ARCHIVE
    if not path.is_file():
        raise ProblemError(410, f"the archives of search {search.id} have gone, to make room")
    with suppress(OSError):
        os.utime(path)  # what is downloaded is in use: others go first, to make room
    headers = {"ETag": f'"{model.archive.sha256}"'}
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    digest = base64.b64encode(bytes.fromhex(model.archive.sha256)).decode()
    return Download(
        path,
        media_type="application/zip",
        filename=f"{search.id}-{number}.zip",
        headers=headers | {"Repr-Digest": f"sha-256=:{digest}:"},
    )


def _place(service: Service, search: SearchRow, number: int) -> FilePath:
    place = service.folder("results") / search.id / str(number)
    if not (place / REPORT).is_file():
        raise ProblemError(404, f"search {search.id} has no model {number}")
    return place
