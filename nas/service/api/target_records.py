"""What clients are told of devices' targets, and how they describe one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from pydantic.config import JsonDict

from latency.json_numbers import NUMBER
from latency.profile_file import FingerprintData
from latency.target import MOST
from nas.service.api.owned import SharedWith
from nas.service.api.schemas import SHAPE, Shape
from supernet.architecture import Architecture

_TARGET: JsonDict = {
    "device": "cpu",
    "runtime": "onnxruntime",
    "threads": 4,
    "dtype": "float32",
    "batch_size": 1,
    "sequence_length": 64,
}


def _count(name: str) -> JsonDict:
    return {"type": "integer", "minimum": 1, "maximum": MOST[name]}


_TARGET_SCHEMA: JsonDict = {
    "additionalProperties": False,
    "required": ["threads", "batch_size"],
    "anyOf": [{"required": ["sequence_length"]}, {"required": ["lengths"]}],
    "properties": {
        "device": {"const": "cpu", "default": "cpu"},
        "runtime": {"const": "onnxruntime", "default": "onnxruntime"},
        "threads": _count("threads"),
        "dtype": {"enum": ["float32", "int8"], "default": "float32"},
        "batch_size": _count("batch_size"),
        "sequence_length": _count("sequence_length"),
        "lengths": {
            "type": ["object", "null"],
            "description": "Where texts differ: shares of the texts, or their counts, by tokens.",
            "propertyNames": {"pattern": "^[1-9][0-9]{0,3}$"},
            "additionalProperties": {"type": "number", "minimum": 0},
        },
    },
}
"""What :meth:`latency.target.Target.from_dict` takes, and agents measure."""


class AgentInfo(BaseModel, extra="forbid", json_schema_extra={"example": {"version": "0.1.0"}}):
    """What an agent says of itself."""

    version: str = Field(max_length=32)


class NewTarget(
    BaseModel,
    extra="forbid",
    json_schema_extra={"example": {"target": _TARGET, "fingerprint": None, "agent": None}},
):
    """A target to be registered."""

    target: dict[str, Any] = Field(
        description="Runtime, threads, dtype and workload.", json_schema_extra=_TARGET_SCHEMA
    )
    fingerprint: FingerprintData | None = Field(
        default=None, description="The machine and its software; null leaves what is known."
    )
    agent: AgentInfo | None = Field(default=None, description="Of an agent's own request.")


class ProfileInfo(BaseModel):
    """What there is to say of a target's profile."""

    sha256: str
    errors: dict[str, Any] = Field(description="How far predictions are off, beside the floor.")


class TargetRecord(BaseModel):
    """A device's target."""

    name: str
    owner: str
    created: datetime
    target: dict[str, Any]
    fingerprint: dict[str, Any] | None
    agent: dict[str, Any] | None
    last_seen: datetime | None = Field(description="When its agent asked last.")
    profile: ProfileInfo | None
    shared_with: SharedWith


def target_record(row: Mapping[str, Any]) -> TargetRecord:
    """What is told of a row of the table, with its ``shared_with``."""
    digest = row["profile_digest"]
    profile = None if digest is None else {"sha256": digest, "errors": row["errors"] or {}}
    return TargetRecord.model_validate({**row, "profile": profile})


class Wanted(
    BaseModel,
    extra="forbid",
    json_schema_extra={"example": {"architectures": [SHAPE], "percentile": 50, "confidence": None}},
):
    """Architectures to predict the latency of."""

    architectures: list[Shape] = Field(min_length=1, max_length=1000)
    percentile: Literal[50, 95] = Field(default=50, description="Of a model's calls.")
    confidence: Annotated[float, Field(gt=0, lt=1), NUMBER] | None = Field(
        default=None,
        description="Of the upper bound; null is 0.95, or what the profile supports if less.",
    )


class PredictedLatency(BaseModel):
    """An architecture's latency as predicted."""

    architecture: Architecture
    latency_ms: float
    upper_ms: float = Field(description="What it is below, at the confidence.")


class Predicted(BaseModel):
    """Predictions for a target."""

    target: str
    percentile: int
    confidence: float
    architectures: list[PredictedLatency]
