"""Devices: ``/v1/targets``, their profiles and predictions."""

from __future__ import annotations

import math
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Path, Request, Response
from fastapi.responses import FileResponse

from latency.fingerprint import Fingerprint
from latency.profile import Profile
from latency.profile_file import ProfileFile
from latency.target import Target
from nas.service.access.tokens import Caller
from nas.service.api.auth import Needs, Reader, The
from nas.service.api.bodies import json_body, parsed, strict_router
from nas.service.api.owned import (
    Page,
    Sharing,
    find,
    find_own,
    find_page,
    share_own,
    shown,
)
from nas.service.api.paging import Cursor, Limit
from nas.service.api.paths import bare
from nas.service.api.problems import ProblemError, described
from nas.service.api.target_records import (
    NewTarget,
    Predicted,
    PredictedLatency,
    TargetRecord,
    Wanted,
    target_record,
)
from nas.service.devices.targets import (
    DeviceTarget,
    kept_profile,
    predictor_of,
    register_target,
    remove_target,
    store_profile,
    target_of_row,
)
from nas.service.plain_text import check_plain
from nas.service.service import Service
from nas.service.settings import NAME

router = strict_router("devices")

TargetName = Annotated[str, Path(pattern=rf"^{NAME.pattern}$", max_length=63, examples=["pi"])]
Registrar = Annotated[Caller, Depends(Needs("device", "submit"))]

PROFILES = CapacityLimiter(1)
"""Large profiles in memory as objects: one at a time."""

PREDICTIONS = CapacityLimiter(1)
"""Predictors are fitted one at a time: who waits for one holds no thread that others need."""


def seen_target(service: Service, caller: Caller, name: str) -> DeviceTarget:
    """The target of a name, if the caller may see it.

    Raises:
        ProblemError: 404.
    """
    return target_of_row(find(service, caller, "target", name))


def own_target(service: Service, caller: Caller, name: str) -> DeviceTarget:
    """The target of a name, if the caller may change it.

    Raises:
        ProblemError: 404 or 403.
    """
    return target_of_row(find_own(service, caller, "target", name))


@router.get("/targets")
def list_targets(
    caller: Reader, service: The, limit: Limit = 50, cursor: Cursor = None
) -> Page[TargetRecord]:
    """The devices' targets; the server's own are in ``/v1/catalog``."""
    rows, further = find_page(service, caller, "target", limit, cursor)
    return Page(items=[target_record(row) for row in rows], next=further)


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
    fingerprint, agent = new.fingerprint, new.agent
    for field, told in (("fingerprint", fingerprint), ("agent", agent)):
        check_plain(field, None if told is None else told.model_dump())
    fresh = register_target(
        service.engine,
        service.settings.data,
        name,
        caller.owner,
        target,
        fingerprint=None if fingerprint is None else Fingerprint(**fingerprint.model_dump()),
        agent=None if agent is None else agent.model_dump(),
        anyones=caller.may("admin"),
        most=service.settings.limits.targets_per_user,
    )
    response.status_code = 201 if fresh else 200
    return _told(service, caller, name)


@router.get(bare("/targets/{name}"), responses=described(404))
def get_target(name: TargetName, caller: Reader, service: The) -> TargetRecord:
    """One device's target."""
    return _told(service, caller, name)


@router.patch(bare("/targets/{name}"), responses=described(404))
def share_target(
    name: TargetName, sharing: Sharing, caller: Registrar, service: The
) -> TargetRecord:
    """Say who may see a device and have models measured on it; the owner always may."""
    share_own(service, caller, "target", name, sharing.shared_with)
    return _told(service, caller, name)


@router.delete(bare("/targets/{name}"), status_code=204, responses=described(404))
def delete_target(name: TargetName, caller: Registrar, service: The) -> None:
    """Forget a target, its profile and its tasks; searches that wait for it fail."""
    remove_target(service.engine, service.settings.data, own_target(service, caller, name))


@router.put(
    "/targets/{name}/profile",
    responses=described(400, 404, 409, 413),
    openapi_extra=json_body(ProfileFile, "A file that `latency profile` wrote."),
)
async def put_profile(
    name: TargetName, request: Request, caller: Registrar, service: The
) -> TargetRecord:
    """Give a target the profile that was measured on its device.

    Searches whose models it covers then measure none of their own, unless their recipe measures
    for more than 1.25 times as long.
    """
    known = await to_thread.run_sync(own_target, service, caller, name)
    content = await request.body()
    await to_thread.run_sync(_store, service, known, content, limiter=PROFILES)
    return await to_thread.run_sync(_told, service, caller, name)


def _told(service: Service, caller: Caller, name: str) -> TargetRecord:
    return target_record(shown(service, "target", find(service, caller, "target", name)))


def _store(service: Service, known: DeviceTarget, content: bytes) -> None:
    profile = Profile.from_dict(parsed(content))
    store_profile(service.engine, service.settings.data, known, profile)


@router.head("/targets/{name}/profile", include_in_schema=False)
@router.get(
    "/targets/{name}/profile",
    response_class=FileResponse,
    responses={
        200: {
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/ProfileFile"}}
            }
        },
        **described(404),
    },
)
def get_profile(name: TargetName, caller: Reader, service: The) -> FileResponse:
    """The profile, as `latency show` and `latency predict` read it."""
    known = seen_target(service, caller, name)
    path = kept_profile(service.settings.data, known)
    if path is None:
        raise ProblemError(404, f"target {name} has no profile yet")
    return FileResponse(
        path,
        media_type="application/json",
        filename=f"{name}.json",
        headers={"ETag": f'"{known.profile_digest}"'},
    )


@router.post("/targets/{name}:predict", responses=described(404, 409))
async def predict(name: TargetName, wanted: Wanted, caller: Reader, service: The) -> Predicted:
    """Latencies of architectures on a device that has a profile."""
    known = await to_thread.run_sync(seen_target, service, caller, name)
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
                architecture=one, latency_ms=float(ms), upper_ms=float(ms) * (1 + margin)
            )
            for one, ms in zip(architectures, predicted, strict=True)
        ],
    )
