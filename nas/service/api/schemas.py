"""Searches and models as clients see them; docs/http.md explains each field."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field
from pydantic.config import JsonDict

from latency.json_numbers import NUMBER
from nas.service.access.visibility import Readers
from nas.service.api.owned import SharedWith
from nas.service.searches.lifecycle import Status
from nas.service.searches.requests import Note, SearchRequest, Title
from supernet.architecture import Architecture

Size = Annotated[int, Field(ge=1, le=65_536), NUMBER]
SHAPE: JsonDict = {
    "hidden_size": 192,
    "layers": [{"num_heads": 6, "qkv_size": 192, "intermediate_size": 384}] * 3,
}
"""An example."""


class Layer(BaseModel, extra="forbid"):
    """A layer's sizes; see :class:`supernet.architecture.Layer`."""

    num_heads: Size
    qkv_size: Size
    intermediate_size: Size
    compression: Size = 1


class Shape(BaseModel, extra="forbid", json_schema_extra={"example": SHAPE}):
    """An architecture's sizes; see :class:`supernet.architecture.Architecture`."""

    hidden_size: Size
    layers: list[Layer] = Field(min_length=1, max_length=128)

    def architecture(self) -> Architecture:
        """What :mod:`latency` and :mod:`supernet` call it.

        Raises:
            NasError: the sizes do not fit together.
        """
        return Architecture.from_dict(self.model_dump())


class Archive(BaseModel):
    """A file to download."""

    bytes: int
    sha256: str


class Model(BaseModel):
    """A model that was handed over, measured on its target."""

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
    shared_with: SharedWith
    request: SearchRequest
    error: str | None = Field(description="Of one that failed: what to do about it.")
    expired: bool = Field(description="Whether its archives have gone, to make room.")
    models: list[Model] | None = Field(description="Of one that is done: one for each goal.")


class SearchChange(
    BaseModel,
    extra="forbid",
    json_schema_extra={"example": {"name": "Tickets, 4x", "note": "The one that we serve."}},
):
    """What may change of a search once it is made."""

    name: Title | None = None
    note: Note | None = None
    shared_with: Readers | None = None
