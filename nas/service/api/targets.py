"""Devices: ``/v1/targets``, their profiles and predictions."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from latency.fingerprint import Fingerprint
from latency.json_numbers import NUMBER
from latency.profile import Profile
from latency.profile_file import FingerprintData, ProfileFile
from latency.target import Target
from nas.service.api.auth import Reader, The, needs
from nas.service.api.bodies import json_body, parsed, read_body
from nas.service.api.paging import Cursor, Limit, after, cursor_of
from nas.service.api.paths import bare
from nas.service.api.problems import ProblemError, described
from nas.service.api.schemas import SHAPE, Shape, moment
from nas.service.service import Service
from nas.service.settings import NAME
from nas.service.tables import targets
from nas.service.targets import (
    ChangedError,
    DeviceTarget,
    TakenError,
    find_target,
    predictor_of,
    profile_path,
    register_target,
    remove_target,
    store_profile,
    target_of_row,
)
from nas.service.tokens import Caller
from supernet.architecture import Architecture

router = APIRouter(prefix="/v1", tags=["devices"], responses=described(401, 403, 422, 429))

TargetName = Annotated[str, Path(pattern=rf"^{NAME.pattern}$", max_length=63, examples=["pi"])]
Registrar = Annotated[Caller, Depends(needs("device", "submit"))]

PROFILES = CapacityLimiter(1)
"""Large profiles in memory as objects: one at a time."""

PREDICTIONS = CapacityLimiter(1)
"""Predictors are fitted one at a time: who waits for one holds no thread that others need."""

Size = Annotated[int, Field(ge=1, le=65_536), NUMBER]
_TARGET: JsonDict = {
    "device": "cpu",
    "runtime": "onnxruntime",
    "threads": 4,
    "dtype": "float32",
    "batch_size": 1,
    "sequence_length": 64,
}

_COUNT: JsonDict = {"type": "integer", "minimum": 1}
_TARGET_SCHEMA: JsonDict = {
    "additionalProperties": False,
    "required": ["threads", "batch_size"],
    "anyOf": [{"required": ["sequence_length"]}, {"required": ["lengths"]}],
    "properties": {
        "device": {"const": "cpu", "default": "cpu"},
        "runtime": {"const": "onnxruntime", "default": "onnxruntime"},
        "threads": _COUNT,
        "dtype": {"enum": ["float32", "int8"], "default": "float32"},
        "batch_size": _COUNT,
        "sequence_length": _COUNT,
        "lengths": {
            "type": ["object", "null"],
            "description": "Where texts differ: shares of the texts, or their counts, by tokens.",
            "propertyNames": {"pattern": "^[1-9][0-9]*$"},
            "additionalProperties": {"type": "number", "minimum": 0},
        },
    },
}
"""What :meth:`latency.target.Target.from_dict` takes, and agents measure."""
_PROFILE: JsonDict = {
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

    @classmethod
    def of(cls, known: DeviceTarget) -> TargetRecord:
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


def known_target(service: Service, name: str) -> DeviceTarget:
    """The target of a name.

    Raises:
        ProblemError: there is none.
    """
    known = find_target(service.engine, name)
    if known is None:
        raise ProblemError(404, f"no device is registered as target {name}")
    return known


def check_owner(caller: Caller, known: DeviceTarget) -> None:
    """Refuse who neither owns a target nor is an administrator.

    Raises:
        ProblemError: naming the owner.
    """
    if known.owner != caller.owner and not caller.may("admin"):
        raise ProblemError(403, f"target {known.name} belongs to {known.owner}")


@router.get("/targets")
def list_targets(_: Reader, service: The, limit: Limit = 50, cursor: Cursor = None) -> TargetPage:
    """The devices' targets; the server's own are in ``/v1/catalog``."""
    query = sa.select(targets).order_by(targets.c.created.desc(), targets.c.name).limit(limit + 1)
    if cursor is not None:
        query = query.where(after(cursor, targets.c.created, targets.c.name))
    with service.engine.connect() as connection:
        found = [target_of_row(row) for row in connection.execute(query)]
    more = len(found) > limit
    last = found[limit - 1] if more else None
    return TargetPage(
        items=[TargetRecord.of(one) for one in found[:limit]],
        next=None if last is None else cursor_of(last.created, last.name),
    )


@router.put(
    bare("/targets/{name}"),
    responses={201: {"model": TargetRecord, "description": "Registered"}, **described(409)},
)
def put_target(
    name: TargetName, new: NewTarget, caller: Registrar, service: The, response: Response
) -> TargetRecord:
    """Register a device's target, or bring it up to date.

    Agents measure ONNX Runtime on the CPU. A profile is forgotten with the target and
    machine it was of; what was asked of another machine fails.
    """
    target = Target.from_dict(new.target)
    fingerprint = new.fingerprint
    try:
        fresh = register_target(
            service.engine,
            service.settings.data,
            name,
            caller.owner,
            target,
            fingerprint=None if fingerprint is None else Fingerprint(**fingerprint.model_dump()),
            agent=None if new.agent is None else new.agent.model_dump(),
            anyones=caller.may("admin"),
        )
    except TakenError as error:
        raise ProblemError(409, str(error)) from error
    response.status_code = 201 if fresh else 200
    return TargetRecord.of(known_target(service, name))


@router.get(bare("/targets/{name}"), responses=described(404))
def get_target(name: TargetName, _: Reader, service: The) -> TargetRecord:
    """One device's target."""
    return TargetRecord.of(known_target(service, name))


@router.delete(bare("/targets/{name}"), status_code=204, responses=described(404))
def delete_target(name: TargetName, caller: Registrar, service: The) -> None:
    """Forget a target, its profile and its tasks; searches that wait for it fail."""
    known = known_target(service, name)
    check_owner(caller, known)
    remove_target(service.engine, service.settings.data, known)


@router.put(
    "/targets/{name}/profile",
    responses=described(400, 404, 409, 413),
    openapi_extra=json_body(ProfileFile, "A file that `latency profile` wrote.", _PROFILE),
)
async def put_profile(
    name: TargetName, request: Request, caller: Registrar, service: The
) -> TargetRecord:
    """Give a target the profile that was measured on its device.

    Searches whose models it covers then measure none of their own, unless their recipe measures
    for more than 1.25 times as long.
    """
    known = await to_thread.run_sync(known_target, service, name)
    check_owner(caller, known)
    content = await read_body(request, service.settings.limits.profile_bytes)
    await to_thread.run_sync(_store, service, known, content, limiter=PROFILES)
    return TargetRecord.of(await to_thread.run_sync(known_target, service, name))


def _store(service: Service, known: DeviceTarget, content: bytes) -> None:
    profile = Profile.from_dict(parsed(content))
    try:
        store_profile(service.engine, service.settings.data, known, profile)
    except ChangedError as error:
        raise ProblemError(409, str(error)) from error


@router.head("/targets/{name}/profile", include_in_schema=False)
@router.get(
    "/targets/{name}/profile",
    response_class=FileResponse,
    responses={
        200: {
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/ProfileFile"},
                    "example": _PROFILE,
                }
            }
        },
        **described(404),
    },
)
def get_profile(name: TargetName, _: Reader, service: The) -> FileResponse:
    """The profile, as `latency show` and `latency predict` read it."""
    known = known_target(service, name)
    digest = known.profile_digest
    path = None if digest is None else profile_path(service.settings.data, name, digest)
    if path is None or not path.exists():
        raise ProblemError(404, f"target {name} has no profile yet")
    return FileResponse(
        path,
        media_type="application/json",
        filename=f"{name}.json",
        headers={"ETag": f'"{digest}"'},
    )


@router.post("/targets/{name}:predict", responses=described(404, 409))
async def predict(name: TargetName, wanted: Wanted, _: Reader, service: The) -> Predicted:
    """Latencies of architectures on a device that has a profile."""
    known = await to_thread.run_sync(known_target, service, name)
    return await to_thread.run_sync(_predict, service, known, wanted, limiter=PREDICTIONS)


def _predict(service: Service, known: DeviceTarget, wanted: Wanted) -> Predicted:
    architectures = [one.architecture() for one in wanted.architectures]
    predictor = predictor_of(service.settings.data, known)
    if predictor is None:
        raise ProblemError(
            409, f"target {known.name} has no profile yet: upload one, or search on it"
        )
    confidence = wanted.confidence
    if confidence is None:
        confidence = min(0.95, math.floor(100 * predictor.max_confidence) / 100)
    margin = predictor.margin(confidence, wanted.percentile)
    predicted = predictor.predict(architectures, wanted.percentile, target=known.target)
    return Predicted(
        target=known.name,
        percentile=wanted.percentile,
        confidence=confidence,
        architectures=[
            PredictedLatency(
                architecture=Shape.model_validate(one.to_dict()),
                latency_ms=float(ms),
                upper_ms=float(ms) * (1 + margin),
            )
            for one, ms in zip(architectures, predicted, strict=True)
        ],
    )
