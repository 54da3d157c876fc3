"""What users upload, by the same routes: ``/v1/datasets``, ``/v1/teachers``, ``/v1/supernets``."""

# Annotations are evaluated: a route's types differ from one kind of upload to the next.

import errno
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated, Any

import anyio
from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import Path, Query, Request, Response

from nas.service.access.tokens import Caller
from nas.service.access.visibility import is_visible
from nas.service.api.auth import Reader, Submitter, The
from nas.service.api.bodies import strict_router
from nas.service.api.owned import Page, Sharing, find, find_own, find_page, share_own, shown
from nas.service.api.paging import Cursor, Limit
from nas.service.api.paths import bare
from nas.service.api.problems import ProblemError, described
from nas.service.api.upload_records import (
    DatasetRecord,
    SupernetRecord,
    TeacherRecord,
    UploadRecord,
)
from nas.service.searches.lifecycle import find as find_search
from nas.service.service import Service, UploadKind
from nas.service.settings import NAME
from nas.service.uploads.convert import KEPT, convert_dataset
from nas.service.uploads.kept import (
    InUseError,
    begin_arrival,
    check_room,
    delete_upload,
    find_upload,
    keep_upload,
    name_taken,
)
from nas.service.uploads.sandbox import run_confined
from nas.service.uploads.supernets import check_supernet
from nas.service.uploads.teachers import check_teacher

CHECKS = CapacityLimiter(2)
"""Turns at reading what was uploaded."""

UploadName = Annotated[str, Path(pattern=rf"^{NAME.pattern}$", max_length=63, examples=["reviews"])]

router = strict_router("uploads")


@dataclass(frozen=True)
class _Uploads:
    """A kind of upload.

    Args:
        what: it is called in sentences.
        record: what clients are told of one.
        endings: of the files that may be sent, as a regular expression.
        check: called in the sandbox with the file's name, the upload's name and the most bytes that
            it may unfold to; keeps what is good and returns what to tell of it.
        about: the route that receives one, in words.
        example: of a body.
    """

    kind: UploadKind
    what: str
    record: type[UploadRecord]
    endings: str
    check: Callable[..., dict[str, Any]]
    about: str
    example: str | None = None

    def told(self, shown: Mapping[str, Any]) -> UploadRecord:
        """What clients are told of a row."""
        return self.record.model_validate({**shown["about"], **shown})


def _add_routes(of: _Uploads) -> None:
    """Give one kind of upload its routes."""
    kind, record = of.kind, of.record
    every, one = f"/{kind}s", bare(f"/{kind}s/{{name}}")
    file_name = Query(
        pattern=rf"^[A-Za-z0-9_][A-Za-z0-9_ .()+-]{{0,99}}\.({of.endings})$",
        max_length=120,
        description="The body's own name: its ending says what it is.",
        examples=[f"{of.kind}.{of.endings.rpartition('|')[2]}"],
    )
    media = {"schema": {"type": "string", "format": "binary"}, "example": of.example}

    @router.put(
        one,
        name=f"upload_{kind}",
        description=of.about,
        status_code=201,
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": "The file as it is.",
                "content": {"application/octet-stream": media},
            }
        },
        responses={
            200: {"description": "It is there already, from an equal upload."},
            **described(400, 404, 409, 413, 507),
        },
    )
    async def upload(
        name: UploadName,
        filename: Annotated[str, file_name],
        request: Request,
        response: Response,
        caller: Submitter,
        service: The,
    ) -> record:  # type: ignore[valid-type] # FastAPI reads it as it runs
        if name in service.offered(kind):
            raise ProblemError(409, f"{kind} {name!r} is the service's own; take another name")
        is_new = await _receive(of, name, filename, request, caller, service)
        response.status_code = 201 if is_new else 200
        return await to_thread.run_sync(_told, of, service, caller, name)

    @router.get(every, name=f"list_{kind}s", description=f"Uploaded {of.what}s, newest first.")
    def list_all(
        caller: Reader, service: The, limit: Limit = 50, cursor: Cursor = None
    ) -> Page[record]:  # type: ignore[valid-type]
        rows, further = find_page(service, caller, kind, limit, cursor)
        return Page(items=[of.told(row) for row in rows], next=further)

    @router.get(
        one,
        name=f"show_{kind}",
        description=f"An uploaded {of.what}.",
        responses=described(404),
    )
    def show(name: UploadName, caller: Reader, service: The) -> record:  # type: ignore[valid-type]
        return _told(of, service, caller, name)

    @router.patch(
        one,
        name=f"share_{kind}",
        description=f"Say who may see and use a {of.what} of one's own.",
        responses=described(404),
    )
    def share(name: UploadName, sharing: Sharing, caller: Submitter, service: The) -> record:  # type: ignore[valid-type]
        share_own(service, caller, kind, name, sharing.shared_with)
        return _told(of, service, caller, name)

    @router.delete(
        one,
        name=f"delete_{kind}",
        description=f"Delete a {of.what} of one's own that no search under way uses.",
        status_code=204,
        responses=described(404, 409),
    )
    def delete(name: UploadName, caller: Submitter, service: The) -> None:
        find_own(service, caller, kind, name)
        _delete(service, kind, name, caller)


_add_routes(
    _Uploads(
        "dataset",
        "data set",
        DatasetRecord,
        "parquet|csv|jsonl|zip",
        convert_dataset,
        "Upload a data set: Parquet, CSV or JSON lines, or a zip with a file for each split.\n\n"
        "It is read as a search would read it, and kept as Parquet. Sending the same again changes "
        "nothing; another one by the same name needs the first to be deleted.",
        "text,label\n" + "Well made and it lasts.,good\nIt broke at once.,bad\n" * 6,
    )
)
_add_routes(
    _Uploads(
        "teacher",
        "teacher",
        TeacherRecord,
        "zip",
        check_teacher,
        "Upload a teacher: a zip of its folder, `config.json`, safetensors weights and tokenizer.\n"
        "\nIt is loaded as a search would load it. Every weight of its encoder must come from the "
        "file, and no code of its own is run.",
    )
)
_add_routes(
    _Uploads(
        "supernet",
        "supernet",
        SupernetRecord,
        "zip",
        check_supernet,
        "Upload a supernet: a zip of `config.json` and `model.safetensors`.",
    )
)


def _told(of: _Uploads, service: Service, caller: Caller, name: str) -> UploadRecord:
    return of.told(shown(service, of.kind, find(service, caller, of.kind, name)))


async def _receive(
    of: _Uploads, name: str, filename: str, request: Request, caller: Caller, service: Service
) -> bool:
    """Receive, check and keep an upload; whether it is new."""
    await to_thread.run_sync(_check_room, service, of.kind, name, caller.owner)
    arrival = await to_thread.run_sync(begin_arrival, service)
    folder = FilePath(arrival.name)
    try:
        digest = await _write(request, folder / filename)
        found = await to_thread.run_sync(find_upload, service.engine, of.kind, name)
        if found is not None:
            if found.digest != digest or not is_visible(
                service, caller, of.kind, found.owner, name
            ):
                raise name_taken(of.kind, name)
            return False
        check = partial(_check_and_keep, of, service, name, filename, folder, caller.owner, digest)
        return await to_thread.run_sync(check, limiter=CHECKS)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(arrival.cleanup)


def _check_room(service: Service, kind: UploadKind, name: str, owner: str) -> None:
    """Refuse what would be refused in the end before its body is received."""
    if find_upload(service.engine, kind, name) is not None:
        return  # it may be the same again
    with service.engine.connect() as connection:
        check_room(service, connection, owner, more=1)


async def _write(request: Request, path: FilePath) -> str:
    """Write the body, which :mod:`nas.service.api.body_limits` bounds, to ``path``; its sha256."""
    digest = hashlib.sha256()
    try:
        async with await anyio.open_file(path, "wb") as file:
            async for chunk in request.stream():
                digest.update(chunk)
                await file.write(chunk)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ProblemError(507, "the service's disk is full") from error
        raise
    return digest.hexdigest()


def _check_and_keep(
    of: _Uploads,
    service: Service,
    name: str,
    filename: str,
    folder: FilePath,
    owner: str,
    digest: str,
) -> bool:
    """Whether it is new."""
    unpacked = service.settings.limits.unpacked_bytes
    about = run_confined(of.check, filename, name, unpacked, folder=folder)
    kept = folder / KEPT / name
    return keep_upload(service, of.kind, name, kept, owner=owner, digest=digest, about=about)


def _delete(service: Service, kind: UploadKind, name: str, caller: Caller) -> None:
    try:
        delete_upload(service, kind, name)
    except InUseError as error:
        search = find_search(service.engine, error.search_id)
        seen = search is not None and is_visible(service, caller, "search", search.owner, search.id)
        by = (
            f"search {error.search_id}: wait for it, or cancel it"
            if seen
            else "a search of another user: wait for it"
        )
        raise ProblemError(409, f"{kind} {name!r} is used by {by}") from error
