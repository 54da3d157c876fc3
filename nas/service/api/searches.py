"""Searches: ``/v1/searches``."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import sqlalchemy as sa
from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.exc import SQLAlchemyError

from nas.service.access.tokens import Caller
from nas.service.access.visibility import is_visible, readers_of, share, visible
from nas.service.api.auth import Reader, Submitter, The, Whoever
from nas.service.api.bodies import StrictRoute
from nas.service.api.identity import bearer_token
from nas.service.api.operation_ids import by_name
from nas.service.api.paging import Cursor, Limit, page_of
from nas.service.api.paths import bare
from nas.service.api.problems import ProblemError, described
from nas.service.api.schemas import Search, SearchChange, Searches, search_of
from nas.service.database.tables import searches as table
from nas.service.devices.tasks import forget_tasks
from nas.service.searches import lifecycle
from nas.service.searches.broadcast import NoSeatError
from nas.service.searches.events import Event, read_after
from nas.service.searches.forecast import ForecastTold, forecast
from nas.service.searches.lifecycle import ENDED, SearchRow, Status
from nas.service.searches.requests import NewSearch, check_request, check_words
from nas.service.service import Service

router = APIRouter(
    prefix="/v1",
    route_class=StrictRoute,
    tags=["searches"],
    responses=described(401, 403, 422, 429),
    generate_unique_id_function=by_name,
)

SearchId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", examples=["5b1c09d2f8a3e746"])]


def known_search(search_id: SearchId, service: The, caller: Whoever) -> SearchRow:
    """The search of the path; 404 where there is none that the caller may see."""
    found = lifecycle.find(service.engine, search_id)
    if found is None or not is_visible(service, caller, "search", found.owner, found.id):
        raise ProblemError(404, f"no search {search_id}")
    return found


Known = Annotated[SearchRow, Depends(known_search)]


def owner_of(search: SearchRow) -> Caller:
    """A search's owner, as who may name what they see."""
    return Caller(search.owner, frozenset({"read", "submit"}))


def check_owner(caller: Caller, search: SearchRow) -> None:
    """Refuse to touch what is another's.

    Raises:
        ProblemError: 403.
    """
    if search.owner != caller.owner and not caller.may("admin"):
        raise ProblemError(403, f"search {search.id} is {search.owner}'s")


@contextmanager
def _conflicts() -> Iterator[None]:
    """Tell as problem 409 what cannot be done as searches are."""
    try:
        yield
    except (lifecycle.OtherRequestError, lifecycle.NotPossibleError) as error:
        raise ProblemError(409, str(error)) from error


@router.post(
    "/searches",
    status_code=201,
    responses={200: {"model": Search, "description": "As made before."}, **described(409)},
)
def create_search(
    wanted: NewSearch,
    caller: Submitter,
    service: The,
    request: Request,
    response: Response,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern=r"^[\x21-\x7e]{1,255}$",
            description="The same key and request a second time answer with the first search; "
            "`name`, `note` and `webhook` are then its.",
        ),
    ] = None,
) -> Search:
    """Queue a search. Repeated with the same `Idempotency-Key`, it is queued once: then 200."""
    check_request(service, wanted, caller)
    with _conflicts():
        row, is_new = lifecycle.create(service, caller.owner, wanted, key)
    response.headers["Location"] = f"/v1/searches/{row.id}"
    request.state.made = row.id
    response.status_code = 201 if is_new else 200
    return _told(service, row)


@router.get("/searches")
def list_searches(
    caller: Reader,
    service: The,
    status: Annotated[Status | None, Query()] = None,
    owner: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Searches:
    """Searches, newest first: all, or in a private service those that one may see."""
    query = sa.select(table).where(visible(service, caller, "search", table.c.owner, table.c.id))
    if status is not None:
        query = query.where(table.c.status == status)
    if owner is not None:
        query = query.where(table.c.owner == owner)
    shown, more = page_of(service.engine, query, table.c.created, table.c.id, limit, cursor)
    readers = readers_of(service.engine, "search", [row.id for row in shown])
    return Searches(items=[search_of(row, readers[row.id]) for row in shown], next=more)


@router.get(bare("/searches/{search_id}"), responses=described(404))
def show_search(_: Reader, search: Known, service: The) -> Search:
    """One search, with its models once it is done."""
    return _told(service, search)


@router.get("/searches/{search_id}/forecast", responses=described(404))
def forecast_search(_: Reader, search: Known, service: The) -> ForecastTold:
    """When a search that waits is likely to begin, and how long such searches take."""
    return _foreseen(service, search.request["recipe"], search.owner, search)


@router.get("/queue")
def forecast_new(
    caller: Reader,
    service: The,
    recipe: Annotated[str | None, Query(max_length=63, examples=["quick"])] = None,
) -> ForecastTold:
    """The forecast of a search by a named recipe that would be submitted now."""
    return _foreseen(service, recipe, caller.owner)


@router.patch(bare("/searches/{search_id}"), responses=described(404))
def change_search(change: SearchChange, caller: Submitter, search: Known, service: The) -> Search:
    """Name a search, note something about it, or say who may see it; what is left out stays."""
    check_owner(caller, search)
    check_words(change.name, change.note)
    given = change.model_fields_set
    words = {key: getattr(change, key) for key in ("name", "note") if key in given}
    if words:
        lifecycle.describe(service.engine, search.id, **words)
    if change.shared_with is not None:
        share(service.engine, "search", search.id, search.owner, change.shared_with)
    return _told(service, known_search(search.id, service, caller))


@router.delete(bare("/searches/{search_id}"), status_code=204, responses=described(404, 409))
async def delete_search(caller: Submitter, search: Known, service: The, request: Request) -> None:
    """Remove a search that has ended, and its models."""
    check_owner(caller, search)
    await to_thread.run_sync(_remove, service, search)
    request.app.state.fronts.forget(search.id)


@router.post("/searches/{search_id}:cancel", responses=described(404, 409))
def cancel_search(caller: Submitter, search: Known, service: The) -> Search:
    """Cancel a search that is queued or under way. What its stages have finished is kept."""
    check_owner(caller, search)
    with _conflicts():
        lifecycle.cancel(service, search)
    return _told(service, known_search(search.id, service, caller))


@router.post("/searches/{search_id}:retry", responses=described(404, 409))
def retry_search(caller: Submitter, search: Known, service: The) -> Search:
    """Queue a search again that failed or was cancelled; it goes on from its finished stages."""
    check_owner(caller, search)
    # What it names may have gone since, or be another's by now.
    asks = caller if caller.owner == search.owner else owner_of(search)
    check_request(service, NewSearch.model_validate(search.request), asks)
    with _conflicts():
        lifecycle.retry(service, search)
    return _told(service, known_search(search.id, service, caller))


async def _room_for_a_stream(request: Request, caller: Reader, service: The) -> AsyncIterator[None]:
    """A seat until the stream has ended."""
    try:
        with request.app.state.broadcast.seat(caller.owner, service.settings.limits.streams):
            yield
    except NoSeatError as error:
        status = 429 if error.of_user else 503
        raise ProblemError(status, str(error), {"Retry-After": "5"}) from error


@router.get(
    "/searches/{search_id}/events",
    response_class=EventSourceResponse,
    responses=described(404, 503),
    dependencies=[Depends(_room_for_a_stream)],
)
async def follow_search(
    _: Reader,
    search: Known,
    service: The,
    request: Request,
    last: Annotated[
        int,
        Header(
            alias="Last-Event-ID", ge=0, le=2**31 - 1, description="Of the last event received."
        ),
    ] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """What happens in a search, from its beginning or after `Last-Event-ID`, as it happens.

    Events are `status`, `stage`, `progress`, `search` and `line`; `end` is the last.
    """
    newest, ended = search.attempt, search.status in ENDED
    while ended:  # what is left to tell, if anything, and no more is to come
        found = await to_thread.run_sync(read_after, service.engine, {search.id: last})
        for event in found.get(search.id, ()):
            yield _sent(event)
            last = event.number
            if event.kind == "status":
                ended = event.data["status"] in ENDED  # it may be tried again by now
        if ended and search.id not in found:
            yield ServerSentEvent(event="end", data={})
            return

    async def allowed() -> bool:
        """Whether the token is still good and sees the search, as far as can be told."""
        token = bearer_token(request.scope)
        if token is None:  # none was asked for
            return True
        with suppress(SQLAlchemyError):
            known = await request.app.state.known_tokens.caller(service, token)
            return known is not None and await to_thread.run_sync(
                is_visible, service, known, "search", search.owner, search.id
            )
        return True

    async for event in request.app.state.broadcast.events(search.id, last, allowed):
        yield _sent(event)
        if event.kind == "status":
            newest = max(newest, event.data["attempt"])
            if event.data["status"] in ENDED and event.data["attempt"] >= newest:
                break
    else:
        return  # the service stops, or an hour is over: whoever watches is to ask again
    yield ServerSentEvent(event="end", data={})


def _foreseen(
    service: Service, recipe: object, owner: str, search: SearchRow | None = None
) -> ForecastTold:
    named = recipe if isinstance(recipe, str) else None
    return forecast(service, named, owner, search)


def _told(service: Service, search: SearchRow) -> Search:
    return search_of(search, readers_of(service.engine, "search", [search.id])[search.id])


def _remove(service: Service, search: SearchRow) -> None:
    with _conflicts():
        lifecycle.remove(service.engine, search)
    shutil.rmtree(service.folder("results") / search.id, ignore_errors=True)
    forget_tasks(service.engine, service.settings.data, search.id)


def _sent(event: Event) -> ServerSentEvent:
    return ServerSentEvent(id=str(event.number), event=event.kind, data=dict(event.data))
