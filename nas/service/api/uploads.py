"""What users upload: ``/v1/datasets``, ``/v1/teachers`` and ``/v1/supernets``."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated, Any

import anyio
import sqlalchemy as sa
from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.requests import ClientDisconnect

from nas.service.access.tokens import Caller
from nas.service.access.visibility import is_visible, readers_of, share, visible
from nas.service.api.auth import Reader, Submitter, The
from nas.service.api.bodies import StrictRoute
from nas.service.api.operation_ids import by_name
from nas.service.api.paging import Cursor, Limit, page_of
from nas.service.api.paths import bare
from nas.service.api.problems import ProblemError, described
from nas.service.api.schemas import Sharing
from nas.service.api.upload_records import (
    DatasetPage,
    DatasetRecord,
    SupernetPage,
    SupernetRecord,
    TeacherPage,
    TeacherRecord,
    dataset_record,
    supernet_record,
    teacher_record,
)
from nas.service.database.tables import uploads
from nas.service.searches.lifecycle import find
from nas.service.service import Service, UploadKind
from nas.service.settings import NAME
from nas.service.uploads.convert import KEPT, convert_dataset
from nas.service.uploads.kept import (
    FullError,
    InUseError,
    TakenError,
    begin_arrival,
    delete_upload,
    find_upload,
    is_full,
    keep_upload,
)
from nas.service.uploads.sandbox import run_confined
from nas.service.uploads.supernets import check_supernet
from nas.service.uploads.teachers import check_teacher

CHECKS_AT_ONCE = 2
"""Uploads that are read at the same time; further ones wait for their turn."""

router = APIRouter(
    prefix="/v1",
    route_class=StrictRoute,
    tags=["uploads"],
    responses=described(401, 403, 422, 429),
    generate_unique_id_function=by_name,
)

UploadName = Annotated[str, Path(pattern=rf"^{NAME.pattern}$", max_length=63, examples=["reviews"])]
_FILE = r"^[A-Za-z0-9_][A-Za-z0-9_ .()+-]{0,99}"
DataFile = Annotated[
    str,
    Query(
        pattern=_FILE + r"\.(parquet|csv|jsonl|zip)$",
        max_length=120,
        description="The body's own name: its ending says what it is.",
        examples=["reviews.csv"],
    ),
]
ModelFile = Annotated[
    str,
    Query(
        pattern=_FILE + r"\.zip$",
        max_length=120,
        description="The body's own name.",
        examples=["model.zip"],
    ),
]
_EXAMPLE = "text,label\n" + "Well made and it lasts.,good\nIt broke at once.,bad\n" * 6


def _uploading(example: dict[str, str]) -> dict[str, Any]:
    """What is told of a route that receives a file."""
    media = {"schema": {"type": "string", "format": "binary"}, **example}
    body = {
        "required": True,
        "description": "The file as it is.",
        "content": {"application/octet-stream": media},
    }
    return {
        "status_code": 201,
        "openapi_extra": {"requestBody": body},
        "responses": described(400, 404, 409, 413, 507)
        | {200: {"description": "It is there already, from an equal upload."}},
    }


@router.put("/datasets/{name}", **_uploading({"example": _EXAMPLE}))
async def upload_dataset(
    name: UploadName,
    filename: DataFile,
    request: Request,
    response: Response,
    caller: Submitter,
    service: The,
) -> DatasetRecord:
    """Upload a data set: Parquet, CSV or JSON lines, or a zip with a file for each split.

    It is read as a search would read it, and kept as Parquet. Sending the same again changes
    nothing; another one by the same name needs the first to be deleted.
    """
    if name in service.offered("dataset"):
        raise ProblemError(409, f"data set {name!r} is the service's own; take another name")
    row = await _upload(
        "dataset", name, filename, convert_dataset, request, response, caller, service
    )
    return dataset_record(row, _readers(service, row))


@router.put(bare("/teachers/{name}"), **_uploading({}))
async def upload_teacher(
    name: UploadName,
    filename: ModelFile,
    request: Request,
    response: Response,
    caller: Submitter,
    service: The,
) -> TeacherRecord:
    """Upload a teacher: a zip of its folder, ``config.json``, safetensors weights and tokenizer.

    It is loaded as a search would load it. Every weight of its encoder must come from the file, and
    no code of its own is run.
    """
    if name in service.offered("teacher"):
        raise ProblemError(409, f"teacher {name!r} is the service's own; take another name")
    row = await _upload(
        "teacher", name, filename, check_teacher, request, response, caller, service
    )
    return teacher_record(row, _readers(service, row))


@router.put("/supernets/{name}", **_uploading({}))
async def upload_supernet(
    name: UploadName,
    filename: ModelFile,
    request: Request,
    response: Response,
    caller: Submitter,
    service: The,
) -> SupernetRecord:
    """Upload a supernet: a zip of ``config.json`` and ``model.safetensors``."""
    row = await _upload(
        "supernet", name, filename, check_supernet, request, response, caller, service
    )
    return supernet_record(row, _readers(service, row))


@router.get("/datasets")
def list_datasets(
    caller: Reader, service: The, limit: Limit = 50, cursor: Cursor = None
) -> DatasetPage:
    """Uploaded data sets, newest first."""
    rows, readers, further = _page(service, caller, "dataset", limit, cursor)
    return DatasetPage(items=[dataset_record(row, readers[row.name]) for row in rows], next=further)


@router.get("/teachers")
def list_teachers(
    caller: Reader, service: The, limit: Limit = 50, cursor: Cursor = None
) -> TeacherPage:
    """Uploaded teachers, newest first."""
    rows, readers, further = _page(service, caller, "teacher", limit, cursor)
    return TeacherPage(items=[teacher_record(row, readers[row.name]) for row in rows], next=further)


@router.get("/supernets")
def list_supernets(
    caller: Reader, service: The, limit: Limit = 50, cursor: Cursor = None
) -> SupernetPage:
    """Uploaded supernets, newest first."""
    rows, readers, further = _page(service, caller, "supernet", limit, cursor)
    return SupernetPage(
        items=[supernet_record(row, readers[row.name]) for row in rows], next=further
    )


@router.get("/datasets/{name}", responses=described(404))
def show_dataset(name: UploadName, caller: Reader, service: The) -> DatasetRecord:
    """An uploaded data set: its splits, columns and labels, and its first row."""
    row = seen_upload(service, caller, "dataset", name)
    return dataset_record(row, _readers(service, row))


@router.get(bare("/teachers/{name}"), responses=described(404))
def show_teacher(name: UploadName, caller: Reader, service: The) -> TeacherRecord:
    """An uploaded teacher: its type, size and labels."""
    row = seen_upload(service, caller, "teacher", name)
    return teacher_record(row, _readers(service, row))


@router.get("/supernets/{name}", responses=described(404))
def show_supernet(name: UploadName, caller: Reader, service: The) -> SupernetRecord:
    """An uploaded supernet: its architecture and labels."""
    row = seen_upload(service, caller, "supernet", name)
    return supernet_record(row, _readers(service, row))


@router.patch("/datasets/{name}", responses=described(404))
def share_dataset(
    name: UploadName, sharing: Sharing, caller: Submitter, service: The
) -> DatasetRecord:
    """Say who may see and use a data set of one's own."""
    row = _share(service, caller, "dataset", name, sharing)
    return dataset_record(row, _readers(service, row))


@router.delete("/datasets/{name}", status_code=204, responses=described(404, 409))
def delete_dataset(name: UploadName, caller: Submitter, service: The) -> None:
    """Delete a data set of one's own that no search under way reads."""
    _delete(service, "dataset", name, caller)


@router.patch(bare("/teachers/{name}"), responses=described(404))
def share_teacher(
    name: UploadName, sharing: Sharing, caller: Submitter, service: The
) -> TeacherRecord:
    """Say who may see and use a teacher of one's own."""
    row = _share(service, caller, "teacher", name, sharing)
    return teacher_record(row, _readers(service, row))


@router.delete(bare("/teachers/{name}"), status_code=204, responses=described(404, 409))
def delete_teacher(name: UploadName, caller: Submitter, service: The) -> None:
    """Delete a teacher of one's own that no search under way learns from."""
    _delete(service, "teacher", name, caller)


@router.patch("/supernets/{name}", responses=described(404))
def share_supernet(
    name: UploadName, sharing: Sharing, caller: Submitter, service: The
) -> SupernetRecord:
    """Say who may see and use a supernet of one's own."""
    row = _share(service, caller, "supernet", name, sharing)
    return supernet_record(row, _readers(service, row))


@router.delete("/supernets/{name}", status_code=204, responses=described(404, 409))
def delete_supernet(name: UploadName, caller: Submitter, service: The) -> None:
    """Delete a supernet of one's own that no search under way uses."""
    _delete(service, "supernet", name, caller)


async def _upload(
    kind: UploadKind,
    name: str,
    filename: str,
    work: Callable[..., dict[str, Any]],
    request: Request,
    response: Response,
    caller: Caller,
    service: Service,
) -> sa.Row[Any]:
    """Receive, check and keep an upload; its row."""
    await to_thread.run_sync(_check_room, service, kind, name, caller.owner)
    arrival = await to_thread.run_sync(begin_arrival, service)
    folder = FilePath(arrival.name)
    try:
        digest = await _receive(request, folder / filename)
        found = await to_thread.run_sync(find_upload, service.engine, kind, name)
        if (
            found is not None
            and found.digest == digest
            and is_visible(service, caller, kind, found.owner, name)
        ):
            response.status_code = 200
            return found
        if found is not None:
            raise _taken(kind, name)
        check = partial(_check_and_keep, service, kind, name, filename, work, folder)
        check = partial(check, owner=caller.owner, digest=digest)
        is_new = await to_thread.run_sync(check, limiter=checks_at_once(request))
        response.status_code = 201 if is_new else 200
        return await to_thread.run_sync(seen_upload, service, caller, kind, name)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(arrival.cleanup)


def checks_at_once(request: Request) -> CapacityLimiter:
    """Turns at reading what was uploaded."""
    state = request.app.state
    if not hasattr(state, "upload_checks"):
        state.upload_checks = CapacityLimiter(CHECKS_AT_ONCE)
    limiter: CapacityLimiter = state.upload_checks
    return limiter


def _check_room(service: Service, kind: UploadKind, name: str, owner: str) -> None:
    """Refuse what would be refused in the end before its body is received."""
    if find_upload(service.engine, kind, name) is not None:
        return  # it may be the same again
    if is_full(service, owner):
        raise _full(service)


async def _receive(request: Request, path: FilePath) -> str:
    """Write the body, which :mod:`nas.service.api.body_limits` bounds, to ``path``; its sha256."""
    digest = hashlib.sha256()
    try:
        async with await anyio.open_file(path, "wb") as file:
            async for chunk in request.stream():
                digest.update(chunk)
                await file.write(chunk)
    except ClientDisconnect as error:
        raise ProblemError(400, "the body ended before it was whole") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ProblemError(507, "the service's disk is full") from error
        raise
    return digest.hexdigest()


def _check_and_keep(
    service: Service,
    kind: UploadKind,
    name: str,
    filename: str,
    work: Callable[..., dict[str, Any]],
    folder: FilePath,
    *,
    owner: str,
    digest: str,
) -> bool:
    """Whether it is new."""
    unpacked = service.settings.limits.unpacked_bytes
    about = run_confined(work, filename, name, unpacked, folder=folder)
    kept = folder / KEPT / name
    try:
        return keep_upload(service, kind, name, kept, owner=owner, digest=digest, about=about)
    except TakenError as error:
        raise _taken(kind, name) from error
    except FullError as error:
        raise _full(service) from error


def _delete(service: Service, kind: UploadKind, name: str, caller: Caller) -> None:
    row = seen_upload(service, caller, kind, name)
    _check_owner(caller, row)
    try:
        delete_upload(service, kind, name)
    except InUseError as error:
        search = find(service.engine, error.search_id)
        seen = search is not None and is_visible(service, caller, "search", search.owner, search.id)
        by = (
            f"search {error.search_id}: wait for it, or cancel it"
            if seen
            else ("a search of another user: wait for it")
        )
        raise ProblemError(409, f"{kind} {name!r} is used by {by}") from error


def _share(
    service: Service, caller: Caller, kind: UploadKind, name: str, sharing: Sharing
) -> sa.Row[Any]:
    row = seen_upload(service, caller, kind, name)
    _check_owner(caller, row)
    if not share(service.engine, kind, name, row.owner, sharing.shared_with):
        raise ProblemError(404, f"no {kind} {name!r}")
    return row


def _check_owner(caller: Caller, row: sa.Row[Any]) -> None:
    if row.owner != caller.owner and not caller.may("admin"):
        raise ProblemError(
            403, f"{row.kind} {row.name!r} is {row.owner}'s: its owner or an admin changes it"
        )


def seen_upload(service: Service, caller: Caller, kind: UploadKind, name: str) -> sa.Row[Any]:
    """Its row; 404 where there is none that the caller may see."""
    row = find_upload(service.engine, kind, name)
    if row is None or not is_visible(service, caller, kind, row.owner, name):
        raise ProblemError(404, f"no {kind} {name!r}")
    return row


def _readers(service: Service, row: sa.Row[Any]) -> list[str]:
    return readers_of(service.engine, row.kind, [row.name])[row.name]


def _page(
    service: Service, caller: Caller, kind: UploadKind, limit: int, cursor: str | None
) -> tuple[list[sa.Row[Any]], dict[str, list[str]], str | None]:
    """The rows of a page, with whom they are shared, and the cursor of the next."""
    seen = visible(service, caller, kind, uploads.c.owner, uploads.c.name)
    query = sa.select(uploads).where(uploads.c.kind == kind, seen)
    rows, further = page_of(service.engine, query, uploads.c.created, uploads.c.name, limit, cursor)
    return rows, readers_of(service.engine, kind, [row.name for row in rows]), further


def _taken(kind: UploadKind, name: str) -> ProblemError:
    return ProblemError(409, f"another {kind} is called {name!r}: delete it, or take another name")


def _full(service: Service) -> ProblemError:
    most = service.settings.limits.stored_per_user
    return ProblemError(409, f"you have {most} data sets, teachers and supernets; delete one first")
