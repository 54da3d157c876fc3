"""Searches: ``/v1/searches``."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.exc import SQLAlchemyError

from nas.service.access.tokens import Caller
from nas.service.access.visibility import is_visible
from nas.service.api import owned
from nas.service.api.auth import Reader, Submitter, The, Whoever, bearer_token
from nas.service.api.bodies import strict_router
from nas.service.api.owned import Page
from nas.service.api.paging import Cursor, Limit
from nas.service.api.paths import bare
from nas.service.api.problems import ProblemError, described
from nas.service.api.schemas import Search, SearchChange
from nas.service.database.tables import searches as table
from nas.service.devices.tasks import forget_tasks
from nas.service.searches import lifecycle
from nas.service.searches.broadcast import NoSeatError
from nas.service.searches.events import Event, read_after
from nas.service.searches.forecast import ForecastTold, forecast
from nas.service.searches.lifecycle import ENDED, SearchRow, Status
from nas.service.searches.requests import NewSearch, check_request, check_words
from nas.service.service import Service

router = strict_router("searches")

SearchId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", examples=["5b1c09d2f8a3e746"])]


def known_search(search_id: SearchId, service: The, caller: Whoever) -> SearchRow:
    """The search of the path; 404 where there is none that the caller may see."""
    return owned.find(service, caller, "search", search_id)


def own_search(search_id: SearchId, service: The, caller: Whoever) -> SearchRow:
    """The search of the path, for who may change it; else as :func:`known_search`, or 403."""
    return owned.find_own(service, caller, "search", search_id)


Known = Annotated[SearchRow, Depends(known_search)]
Own = Annotated[SearchRow, Depends(own_search)]


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
) -> Page[Search]:
    """Searches, newest first: all, or in a private service those that one may see."""
    given = ((table.c.status, status), (table.c.owner, owner))
    conditions = [column == value for column, value in given if value is not None]
    rows, further = owned.find_page(service, caller, "search", limit, cursor, *conditions)
    return Page(items=[Search.model_validate(row) for row in rows], next=further)


@router.get(bare("/searches/{search_id}"), responses=described(404))
def show_search(_: Reader, search: Known, service: The) -> Search:
    """One search, with its models once it is done."""
    return _told(service, search)


@router.get("/searches/{search_id}/forecast", responses=described(404))
def forecast_search(_: Reader, search: Known, service: The) -> ForecastTold:
    """When a search that waits is likely to begin, and how long such searches take."""
    recipe = search.request["recipe"]
    return forecast(service, recipe if isinstance(recipe, str) else None, search.owner, search)


@router.get("/queue")
def forecast_new(
    caller: Reader,
    service: The,
    recipe: Annotated[str | None, Query(max_length=63, examples=["quick"])] = None,
) -> ForecastTold:
    """The forecast of a search by a named recipe that would be submitted now."""
    return forecast(service, recipe, caller.owner)


@router.patch(bare("/searches/{search_id}"), responses=described(404))
def change_search(change: SearchChange, caller: Submitter, search: Own, service: The) -> Search:
    """Name a search, note something about it, or say who may see it; what is left out stays."""
    check_words(change.name, change.note)
    words = change.model_dump(include={"name", "note"}, exclude_unset=True)
    if words:
        lifecycle.describe(service.engine, search.id, **words)
    if change.shared_with is not None:
        owned.share_own(service, caller, "search", search.id, change.shared_with)
    return _told(service, owned.find(service, caller, "search", search.id))


@router.delete(bare("/searches/{search_id}"), status_code=204, responses=described(404, 409))
async def delete_search(_: Submitter, search: Own, service: The, request: Request) -> None:
    """Remove a search that has ended, and its models."""
    await to_thread.run_sync(_remove, service, search)
    request.app.state.fronts.forget(search.id)


@router.post("/searches/{search_id}:cancel", responses=described(404, 409))
def cancel_search(caller: Submitter, search: Own, service: The) -> Search:
    """Cancel a search that is queued or under way. What its stages have finished is kept."""
    lifecycle.cancel(service, search)
    return _told(service, owned.find(service, caller, "search", search.id))


@router.post("/searches/{search_id}:retry", responses=described(404, 409))
def retry_search(caller: Submitter, search: Own, service: The) -> Search:
    """Queue a search again that failed or was cancelled; it goes on from its finished stages."""
    # What it names may have gone since. Its owner, not an administrator, must be able to see it.
    owner = Caller(search.owner, frozenset({"read", "submit"}))
    asks = caller if caller.owner == search.owner else owner
    check_request(service, NewSearch.model_validate(search.request), asks)
    lifecycle.retry(service, search)
    return _told(service, owned.find(service, caller, "search", search.id))


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


def _told(service: Service, search: SearchRow) -> Search:
    return Search.model_validate(owned.shown(service, "search", search))


def _remove(service: Service, search: SearchRow) -> None:
    lifecycle.remove(service.engine, search)
    shutil.rmtree(service.folder("results") / search.id, ignore_errors=True)
    forget_tasks(service.engine, service.settings.data, search.id)


def _sent(event: Event) -> ServerSentEvent:
    return ServerSentEvent(id=str(event.number), event=event.kind, data=dict(event.data))
