"""What agents do: claim tasks of their device, and say what came of them."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path as FilePath
from typing import Annotated, Any

from anyio import sleep, to_thread
from fastapi import Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latency.asked import ProfileAsked, TimeAsked, latencies_from_dicts
from latency.json_numbers import NUMBER
from latency.profile import Profile
from nas.service.access.tokens import Caller
from nas.service.api.auth import DeviceAgent, Reader, The
from nas.service.api.bodies import json_body, parsed, strict_router
from nas.service.api.paths import bare
from nas.service.api.problems import ProblemError, described
from nas.service.api.targets import PROFILES, TargetName, own_target, seen_target
from nas.service.devices.targets import (
    ChangedError,
    check_answers,
    find_target,
    mark_seen,
    store_profile,
)
from nas.service.devices.tasks import (
    LEASE_S,
    Claim,
    Kind,
    LostError,
    Status,
    Task,
    claim_task,
    end_task,
    find_task,
    is_ended,
    note_progress,
    task_folder,
)
from nas.service.service import Service
from supernet.errors import printable

router = strict_router("agents", 404)

TaskId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{32}$", examples=["0123456789abcdef0123456789abcdef"])
]
FileName = Annotated[str, Path(pattern=r"^[0-9]{1,3}\.onnx$", examples=["0.onnx"])]
Attempt = Annotated[int, Field(ge=1, le=1_000_000, description="The number of the claim."), NUMBER]

_LOOK_EVERY_S = 0.5  # for a task, while an agent waits for one


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Resumed(_Body):
    """A claim that an agent held when it was ended."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    attempt: Attempt


class ClaimBody(_Body, json_schema_extra={"example": {"wait_s": 20, "resume": None}}):
    """How an agent asks for a task."""

    wait_s: Annotated[float, Field(ge=0, le=30), NUMBER] = Field(
        default=20.0, description="For a task, at the most."
    )
    resume: Resumed | None = Field(
        default=None, description="What the same agent was at when it was ended; it goes on."
    )


class TaskProgress(
    BaseModel,
    extra="forbid",
    json_schema_extra={"example": {"share": 0.4, "measured": 128, "error_percent": 4.2}},
):
    """How far a task is."""

    share: Annotated[float, Field(ge=0, le=1, description="Done, of all."), NUMBER]
    measured: Annotated[int, Field(ge=0, le=2**31 - 1), NUMBER] = Field(
        default=0, description="Kernels and models so far."
    )
    error_percent: Annotated[float, Field(ge=0, allow_inf_nan=False), NUMBER] | None = Field(
        default=None, description="Of predictions so far, on average."
    )


class ProgressBody(
    _Body,
    json_schema_extra={"example": {"attempt": 1, "progress": {"share": 0.4, "measured": 128}}},
):
    """A sign of life: the lease begins anew."""

    attempt: Attempt
    progress: TaskProgress


class CompleteBody(_Body):
    """What was measured."""

    attempt: Attempt
    result: Any = Field(description="A profile, or the latency of each model in a list.")


class FailBody(
    _Body, json_schema_extra={"example": {"attempt": 1, "error": "the profile was disturbed"}}
):
    """Why a task cannot be done."""

    attempt: Attempt
    error: str = Field(min_length=1, max_length=2000)


class TaskRecord(BaseModel, from_attributes=True):
    """A task of a device."""

    id: str
    target: str
    kind: Kind
    request: dict[str, Any]
    status: Status
    attempt: int = Field(
        validation_alias="attempts", description="The number of its claim; 0 before the first."
    )
    lease_s: float = Field(
        default=LEASE_S, description="From one sign of life to the next, at the most."
    )
    created: datetime
    updated: datetime
    progress: TaskProgress | None
    error: str | None


@router.post(
    "/targets/{name}/tasks:claim",
    response_model=TaskRecord,
    responses={204: {"description": "Nothing to do."}},
)
async def claim(
    name: TargetName, body: ClaimBody, caller: DeviceAgent, service: The, request: Request
) -> Any:
    """The next task of the caller's device; waits for one."""
    resume = None if body.resume is None else Claim(body.resume.id, body.resume.attempt)
    until = time.monotonic() + body.wait_s
    await to_thread.run_sync(_agents_target, service, name, caller)
    while not (request.app.state.stopping.is_set() or await request.is_disconnected()):
        task = await to_thread.run_sync(claim_task, service.engine, name, resume)
        if task is not None:
            return TaskRecord.model_validate(task)
        if time.monotonic() >= until:
            break
        await sleep(_LOOK_EVERY_S)
    return Response(status_code=204)


@router.get(bare("/tasks/{task_id}"))
def get_task(task_id: TaskId, caller: Reader, service: The) -> TaskRecord:
    """A task, without what came of it."""
    task = _known_task(service, task_id)
    seen_target(service, caller, task.target)
    return TaskRecord.model_validate(task)


@router.get(
    "/tasks/{task_id}/files/{file}",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def get_file(task_id: TaskId, file: FileName, caller: DeviceAgent, service: The) -> FileResponse:
    """A model that the task is to time; its sha256 is in the task's request."""
    _agents_task(service, task_id, caller)
    path: FilePath = task_folder(service.settings.data, task_id) / file
    if not path.is_file():
        raise ProblemError(404, f"task {task_id} has no file {file}")
    return FileResponse(path, media_type="application/octet-stream")


@router.post("/tasks/{task_id}:progress", status_code=204, responses=described(409))
def report_progress(task_id: TaskId, body: ProgressBody, caller: DeviceAgent, service: The) -> None:
    """Say how far a task is; the claim holds for another lease."""
    _agents_task(service, task_id, caller)
    note_progress(service.engine, Claim(task_id, body.attempt), body.progress.model_dump())


@router.post(
    "/tasks/{task_id}:complete",
    status_code=204,
    responses=described(400, 409, 413, 503),
    openapi_extra=json_body(CompleteBody, "What was measured."),
)
async def complete(task_id: TaskId, request: Request, caller: DeviceAgent, service: The) -> None:
    """Give what was measured. Saying it again changes nothing."""
    await to_thread.run_sync(_agents_task, service, task_id, caller)
    content = await request.body()
    await to_thread.run_sync(_complete, service, task_id, content, limiter=PROFILES)


@router.post("/tasks/{task_id}:fail", status_code=204, responses=described(409))
def fail(task_id: TaskId, body: FailBody, caller: DeviceAgent, service: The) -> None:
    """Say that a task cannot be done, and why. Saying it again changes nothing."""
    _agents_task(service, task_id, caller)
    claimed = Claim(task_id, body.attempt)
    end_task(service.engine, service.settings.data, claimed, error=printable(body.error))


def _complete(service: Service, task_id: str, content: bytes) -> None:
    """Check and keep a result; a profile becomes the target's own too."""
    try:
        body = CompleteBody.model_validate(parsed(content))
    except ValidationError as error:
        raise RequestValidationError(
            [one | {"loc": ("body", *one["loc"])} for one in error.errors()]
        ) from error
    claimed = Claim(task_id, body.attempt)
    task = _known_task(service, task_id)
    if is_ended(service.engine, claimed):
        return
    if task.status != "claimed" or task.attempts != body.attempt:
        raise LostError(claimed)
    if task.kind == "profile":
        known = find_target(service.engine, task.target)
        if known is None:
            raise ProblemError(404, f"no target {task.target}")
        profile = Profile.from_dict(body.result)
        check_answers(profile, ProfileAsked.from_dict(task.request))
        try:
            store_profile(service.engine, service.settings.data, known, profile)
        except ChangedError as error:  # 503 has the agent send it again
            raise ProblemError(503, str(error)) from error
    else:
        latencies_from_dicts(body.result, len(TimeAsked.from_dict(task.request).models))
    end_task(service.engine, service.settings.data, claimed, result=body.result)


def _agents_target(service: Service, name: str, caller: Caller) -> None:
    """Note that the agent of a target is there, if the target is the caller's."""
    mark_seen(service.engine, own_target(service, caller, name))


def _agents_task(service: Service, task_id: str, caller: Caller) -> Task:
    task = _known_task(service, task_id)
    _agents_target(service, task.target, caller)
    return task


def _known_task(service: Service, task_id: str) -> Task:
    task = find_task(service.engine, task_id)
    if task is None:
        raise ProblemError(404, f"there is no task {task_id}, or none any more")
    return task
