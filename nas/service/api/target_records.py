"""What clients are told of devices' targets, and how they describe one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from latency.json_numbers import NUMBER
from latency.profile_file import FingerprintData
from latency.target import MOST
from nas.service.api.schemas import SHAPE, Shape, moment
from nas.service.devices.targets import DeviceTarget
from supernet.architecture import Architecture

Size = Annotated[int, Field(ge=1, le=65_536), NUMBER]
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
PROFILE: JsonDict = {
    "format": "tailorbert-latency-profile",
    "version": 3,
    "target": _TARGET,
    "workloads": [[1, 64]],
    "fingerprint": {
        "cpu": "Cortex-A76",
        "cores": 4,
        "memory_gib": 8,
        "governor": "performance",
        "gpu": "",
        "machine": "aarch64",
        "system": "Linux",
        "versions": {"onnxruntime": "1.27.0"},
    },
    "spaces": [],
    "shape": {
        "vocab_size": 30522,
        "max_positions": 512,
        "type_vocab_size": 2,
        "num_labels": 2,
        "hidden_act": "gelu",
    },
    "seed": 0,
    "seconds": 300.0,
    "complete": True,
    "sessions": [{"began": "2026-01-01T00:00:00Z", "others_share": 0.01}],
    "measurements": [
        {
            "kernel": "linear",
            "sizes": [64, 384, 384],
            "batch_size": 1,
            "sequence_length": 64,
            "role": "chosen",
            "session": 0,
            "blocks": [[1.0, 1.0, 0, [0.21, 0.2, 0.22]]],
        }
    ],
}
"""Of the measurements, the first: a profile has hundreds."""


class AgentInfo(BaseModel):
    """What an agent says of itself."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"version": "0.1.0"}})

    version: str = Field(max_length=32)


class NewTarget(BaseModel):
    """A target to be registered."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"target": _TARGET, "fingerprint": None, "agent": None}},
    )

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

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "pi",
                "owner": "ada",
                "created": "2026-01-01T00:00:00Z",
                "target": _TARGET,
                "fingerprint": None,
                "agent": {"version": "0.1.0"},
                "last_seen": "2026-01-01T00:00:00Z",
                "profile": None,
                "shared_with": [],
            }
        }
    )

    name: str
    owner: str
    created: datetime
    target: dict[str, Any]
    fingerprint: dict[str, Any] | None
    agent: dict[str, Any] | None
    last_seen: datetime | None = Field(description="When its agent asked last.")
    profile: ProfileInfo | None
    shared_with: list[str] = Field(
        description="Users who may use it besides its owner, or `*`. This matters only in a "
        "private service."
    )

    @classmethod
    def of(cls, known: DeviceTarget, readers: list[str]) -> TargetRecord:
        return cls(
            name=known.name,
            owner=known.owner,
            created=moment(known.created),
            target=known.target.to_dict(),
            fingerprint=None if known.fingerprint is None else known.fingerprint.to_dict(),
            agent=known.agent,
            last_seen=None if known.last_seen is None else moment(known.last_seen),
            profile=None
            if known.profile_digest is None
            else ProfileInfo(sha256=known.profile_digest, errors=known.errors or {}),
            shared_with=readers,
        )


class TargetPage(BaseModel):
    """Some targets, newest first."""

    items: list[TargetRecord]
    next: str | None = Field(description="The cursor of the page after; null on the last.")


class LayerSizes(BaseModel):
    """See :class:`supernet.architecture.Layer`."""

    model_config = ConfigDict(extra="forbid")

    num_heads: Size
    qkv_size: Size
    intermediate_size: Size
    compression: Size = 1


class ArchitectureSizes(BaseModel):
    """See :class:`supernet.architecture.Architecture`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": SHAPE})

    hidden_size: Size
    layers: list[LayerSizes] = Field(min_length=1, max_length=128)

    def architecture(self) -> Architecture:
        return Architecture.from_dict(self.model_dump())


class Wanted(BaseModel):
    """Architectures to predict the latency of."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"architectures": [SHAPE], "percentile": 50, "confidence": None}
        },
    )

    architectures: list[ArchitectureSizes] = Field(min_length=1, max_length=1000)
    percentile: Literal[50, 95] = Field(default=50, description="Of a model's calls.")
    confidence: Annotated[float, Field(gt=0, lt=1), NUMBER] | None = Field(
        default=None,
        description="Of the upper bound; null is 0.95, or what the profile supports if less.",
    )


class PredictedLatency(BaseModel):
    """An architecture's latency as predicted."""

    architecture: Shape
    latency_ms: float
    upper_ms: float = Field(description="What it is below, at the confidence.")


class Predicted(BaseModel):
    """Predictions for a target."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "target": "pi",
                "percentile": 50,
                "confidence": 0.95,
                "architectures": [{"architecture": SHAPE, "latency_ms": 21.3, "upper_ms": 23.0}],
            }
        }
    )

    target: str
    percentile: int
    confidence: float
    architectures: list[PredictedLatency]
