"""What clients are told of uploaded data sets, teachers and supernets."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from nas.service.api.schemas import moment
from nas.tasks.kinds import KINDS

_SHARED = "Users who may use it besides its owner, or `*`. This matters only in a private service."


class Column(BaseModel):
    """A column of a data set."""

    name: str
    kind: Literal["text", "whole", "number", "boolean"]


class LabelSummary(BaseModel):
    """What the column ``label`` makes of a data set."""

    kind: str = Field(json_schema_extra={"enum": [kind.name for kind in KINDS]})
    classes: int | None = Field(description="In number; null for a regression.")
    names: list[str] = Field(description="Of the classes; the first hundred.")


class DatasetRecord(BaseModel):
    """A data set, as it is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "reviews",
                "owner": "ada",
                "created": "2026-01-31T12:00:00Z",
                "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "bytes": 48213,
                "shared_with": [],
                "splits": {"train": 900, "test": 100},
                "columns": [{"name": "text", "kind": "text"}, {"name": "label", "kind": "whole"}],
                "labels": {"kind": "classification", "classes": 2, "names": ["0", "1"]},
                "example": {"text": "Well made, and it lasts.", "label": 1},
            }
        }
    )

    name: str
    owner: str
    created: datetime
    digest: str = Field(description="sha256 of what was uploaded.")
    bytes: int = Field(description="As kept.")
    shared_with: list[str] = Field(description=_SHARED)
    splits: dict[str, int] = Field(description="Rows of each.")
    columns: list[Column]
    labels: LabelSummary | None = Field(description="null without a column `label`.")
    example: dict[str, str | int | float | bool | None] = Field(
        description="The first row, its texts cut."
    )


class TeacherRecord(BaseModel):
    """A teacher, as it is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "reviews-bert",
                "owner": "ada",
                "created": "2026-01-31T12:00:00Z",
                "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "bytes": 438000000,
                "shared_with": [],
                "model_type": "bert",
                "layers": 12,
                "hidden_size": 768,
                "parameters": 109483778,
                "labels": ["negative", "positive"],
            }
        }
    )

    name: str
    owner: str
    created: datetime
    digest: str = Field(description="sha256 of what was uploaded.")
    bytes: int = Field(description="As kept.")
    shared_with: list[str] = Field(description=_SHARED)
    model_type: str
    layers: int
    hidden_size: int
    parameters: int
    labels: list[str] | None = Field(
        description="Of its head, in its order; null where a search trains a new one."
    )


class SupernetRecord(BaseModel):
    """A supernet, as it is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "reviews-minilm",
                "owner": "ada",
                "created": "2026-01-31T12:00:00Z",
                "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "bytes": 90900000,
                "shared_with": [],
                "architecture": {
                    "hidden_size": 384,
                    "layers": [{"num_heads": 12, "qkv_size": 384, "intermediate_size": 1536}],
                },
                "labels": ["negative", "positive"],
                "parameters": 22713986,
            }
        }
    )

    name: str
    owner: str
    created: datetime
    digest: str = Field(description="sha256 of what was uploaded.")
    bytes: int = Field(description="As kept.")
    shared_with: list[str] = Field(description=_SHARED)
    architecture: dict[str, Any] = Field(description="The largest of its sub-networks.")
    labels: list[str]
    parameters: int


class DatasetPage(BaseModel):
    """A page of data sets."""

    items: list[DatasetRecord]
    next: str | None


class TeacherPage(BaseModel):
    """A page of teachers."""

    items: list[TeacherRecord]
    next: str | None


class SupernetPage(BaseModel):
    """A page of supernets."""

    items: list[SupernetRecord]
    next: str | None


def dataset_record(row: Row[Any], readers: list[str]) -> DatasetRecord:
    """Of its row, and those it is shared with."""
    return DatasetRecord(**_common(row, readers))


def teacher_record(row: Row[Any], readers: list[str]) -> TeacherRecord:
    """Of its row, and those it is shared with."""
    return TeacherRecord(**_common(row, readers))


def supernet_record(row: Row[Any], readers: list[str]) -> SupernetRecord:
    """Of its row, and those it is shared with."""
    return SupernetRecord(**_common(row, readers))


def _common(row: Row[Any], readers: list[str]) -> dict[str, Any]:
    return {
        "name": row.name,
        "owner": row.owner,
        "created": moment(row.created),
        "digest": row.digest,
        "bytes": row.bytes,
        "shared_with": readers,
        **row.about,
    }
