"""What clients are told of uploaded data sets, teachers and supernets."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from nas.service.api.owned import SharedWith
from nas.tasks.kinds import KINDS


class UploadRecord(BaseModel):
    """An upload, as it is kept."""

    name: str
    owner: str
    created: datetime
    digest: str = Field(description="sha256 of what was uploaded.")
    bytes: int = Field(description="As kept.")
    shared_with: SharedWith


class Column(BaseModel):
    """A column of a data set."""

    name: str
    kind: Literal["text", "whole", "number", "boolean"]


class LabelSummary(BaseModel):
    """What the column ``label`` makes of a data set."""

    kind: str = Field(json_schema_extra={"enum": [kind.name for kind in KINDS]})
    classes: int | None = Field(description="In number; null for a regression.")
    names: list[str] = Field(description="Of the classes; the first hundred.")


class DatasetRecord(UploadRecord):
    """A data set, as it is kept."""

    splits: dict[str, int] = Field(description="Rows of each.")
    columns: list[Column]
    labels: LabelSummary | None = Field(description="null without a column `label`.")
    example: dict[str, str | int | float | bool | None] = Field(
        description="The first row, its texts cut."
    )


class TeacherRecord(UploadRecord):
    """A teacher, as it is kept."""

    model_type: str
    layers: int
    hidden_size: int
    parameters: int
    labels: list[str] | None = Field(
        description="Of its head, in its order; null where a search trains a new one."
    )


class SupernetRecord(UploadRecord):
    """A supernet, as it is kept."""

    architecture: dict[str, Any] = Field(description="The largest of its sub-networks.")
    labels: list[str]
    parameters: int
