"""What the routes of searches answer with; docs/http.md explains each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from nas.service.access.visibility import Readers
from nas.service.searches.lifecycle import SearchRow, Status
from nas.service.searches.requests import Note, SearchRequest, Title

SHAPE: JsonDict = {
    "hidden_size": 192,
    "layers": [{"num_heads": 6, "qkv_size": 192, "intermediate_size": 384}] * 3,
}
MODEL: JsonDict = {
    "number": 0,
    "target": "cpu",
    "budget": "4x",
    "budget_ms": 1.94,
    "percentile": 50,
    "architecture": SHAPE,
    "native": True,
    "measured_ms": 1.87,
    "p50_ms": 1.87,
    "p95_ms": 1.98,
    "predicted_ms": 1.85,
    "teacher_ms": 7.76,
    "speedup": 4.1,
    "metric": "accuracy",
    "score": 0.717,
    "teacher_score": 0.736,
    "baseline_score": 0.129,
    "above_baseline": True,
    "teacher_above_baseline": True,
    "warnings": [],
    "parameters": 6_900_000,
    "teacher_parameters": 22_700_000,
    "archive": {"bytes": 55_400_000, "sha256": "9f86d081884c7d65" * 4},
}


class Layer(BaseModel):
    """A layer's sizes."""

    num_heads: int
    qkv_size: int
    intermediate_size: int
    compression: int = 1


class Shape(BaseModel):
    """An architecture."""

    model_config = ConfigDict(json_schema_extra={"example": SHAPE})

    hidden_size: int
    layers: list[Layer]


class Archive(BaseModel):
    """A file to download."""

    bytes: int
    sha256: str


class Model(BaseModel):
    """A model that was handed over, measured on its target."""

    model_config = ConfigDict(json_schema_extra={"example": MODEL})

    number: int
    target: str
    budget: str
    budget_ms: float = Field(description="A speed-up's in milliseconds, by the teacher measured.")
    percentile: int
    architecture: Shape
    native: bool = Field(description="Whether stock BERT loads it.")
    measured_ms: float = Field(description="At the percentile, on the target.")
    p50_ms: float
    p95_ms: float
    predicted_ms: float
    teacher_ms: float
    speedup: float
    metric: str
    score: float = Field(description="On test data.")
    teacher_score: float
    baseline_score: float | None = Field(
        default=None, description="Of the constant answer that scores best on the same data."
    )
    above_baseline: bool | None = Field(
        default=None, description="Whether the score is above that beyond chance."
    )
    teacher_above_baseline: bool | None = None
    warnings: list[str] = Field(
        default_factory=list, description="What is to be said against it, a line each."
    )
    parameters: int
    teacher_parameters: int
    archive: Archive


class Search(BaseModel):
    """A search."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "5b1c09d2f8a3e746",
                "owner": "ada",
                "created": "2026-11-22T09:00:00Z",
                "updated": "2026-11-22T09:12:30Z",
                "status": "done",
                "attempt": 1,
                "stage": "model 0",
                "priority": 100,
                "name": "Tickets, 4x",
                "note": None,
                "shared_with": [],
                "request": {"budgets": ["4x"], "recipe": "quick", "space": "minilm-native"},
                "error": None,
                "expired": False,
                "models": [MODEL],
            }
        }
    )

    id: str
    owner: str
    created: datetime
    updated: datetime
    status: Status
    attempt: int = Field(description="1, and one more for each retry.")
    stage: str | None = Field(description="That runs, or ran last.")
    priority: int
    name: str | None = Field(description="That its owner gave it.")
    note: str | None
    shared_with: list[str] = Field(
        description="Users who may see it besides its owner, or `*`. This matters only in a "
        "private service."
    )
    request: SearchRequest
    error: str | None = Field(description="Of one that failed: what to do about it.")
    expired: bool = Field(description="Whether its archives have gone, to make room.")
    models: list[Model] | None = Field(description="Of one that is done: one for each goal.")


class SearchChange(BaseModel):
    """What may change of a search once it is made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "Tickets, 4x", "note": "The one that we serve."}},
    )

    name: Title | None = None
    note: Note | None = None
    shared_with: Readers | None = None


class Sharing(BaseModel):
    """With whom something is shared."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"shared_with": ["bob"]}}
    )

    shared_with: Readers


class Searches(BaseModel):
    """A page of searches."""

    items: list[Search]
    next: str | None = Field(description="The next page's cursor.")


class Catalog(BaseModel):
    """What a search may name."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "teachers": ["minilm"],
                "datasets": ["pydoc", "tickets"],
                "supernets": [],
                "spaces": ["minilm", "minilm-native"],
                "recipes": ["full", "quick"],
                "targets": [
                    {"name": "cpu", "place": "server", "last_seen": None},
                    {"name": "pi", "place": "device", "last_seen": "2026-11-22T09:00:00Z"},
                ],
            }
        }
    )

    teachers: list[str]
    datasets: list[str]
    supernets: list[str]
    spaces: list[str]
    recipes: list[str]
    targets: list[CatalogTarget]


class CatalogTarget(BaseModel):
    """Where models may be asked for."""

    name: str
    place: Literal["server", "device"]
    last_seen: datetime | None = Field(description="A device's agent.")


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as a date and time, UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def search_of(row: SearchRow, readers: list[str]) -> Search:
    """A search as it is shown, with those it is shared with."""
    data: dict[str, Any] = dict(row._mapping) | {"shared_with": readers}
    data |= {"created": moment(row.created), "updated": moment(row.updated)}
    return Search.model_validate({name: data[name] for name in Search.model_fields})
