"""How long a search is likely to wait and to take, from how long such searches took here before.

This is no promise: a recipe fixes the number of steps, and the time of a step depends on the data.
Which user comes next is decided when a worker becomes free; see docs/service.md.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Row

from nas.service.database.tables import events, searches, workers
from nas.service.searches.lifecycle import SearchRow, Status
from nas.service.service import Service

_COUNTED = 10
"""How many of a recipe's searches count: the newest that were done at their first attempt."""
_NEXT = "next"
"""The id of a search that would be submitted now."""


@dataclass(frozen=True)
class Waiting:
    """A search that waits.

    Args:
        takes_s: seconds from its beginning to its end; infinite where nobody can tell.
    """

    id: str
    owner: str
    takes_s: float


class ForecastTold(BaseModel):
    """How long a search is likely to wait and to take, by earlier ones."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "example": {
                "status": "queued",
                "ahead": 1,
                "running": 1,
                "starts_in_s": 540.0,
                "takes_s": 620.0,
                "counted": 10,
            }
        },
    )

    status: Status | None = Field(
        description="Its status; null of a search that is not submitted yet."
    )
    ahead: int = Field(description="Searches that are likely to begin before it.")
    running: int = Field(description="Searches under way.")
    starts_in_s: float | None = Field(
        description="null where nobody can tell, and of one that runs or has ended."
    )
    takes_s: float | None = Field(description="The median of earlier ones; null without any.")
    counted: int = Field(description="How many earlier ones by this recipe that is of.")


def forecast(
    service: Service, recipe: str | None, owner: str, search: SearchRow | None = None
) -> ForecastTold:
    """The forecast of a search or, without one, of a search that an owner would submit now.

    Args:
        recipe: its name; None for a client's own recipe.
    """
    now = time.time()
    with service.engine.connect() as connection:
        took = cache(partial(_durations, connection))
        queued = _of_status(connection, "queued")
        under_way = _of_status(connection, "running")
        began = _beginnings(connection, [row.id for row in under_way])
        places = _places(connection, service)
        known = took(recipe)
        left = [
            (max(0.0, _median(took(row.recipe)) - (now - began.get(row.id, now))), row.owner)
            for row in under_way
        ]
        waiting = [
            Waiting(row.id, row.owner, _median(took(row.recipe))) for row in in_order(queued)
        ]
    status = None if search is None else search.status
    takes_s = statistics.median(known) if known else None
    ahead, starts_in_s = 0, None
    if search is None or search.status == "queued":
        mine = _NEXT if search is None else search.id
        if search is None:
            waiting.append(Waiting(_NEXT, owner, float("inf")))
        per_user = min(service.settings.jobs.per_user, service.settings.jobs.at_once)
        ahead, starts_in_s = start(left, waiting, mine, places, per_user)
    return ForecastTold(
        status=status,
        ahead=ahead,
        running=len(under_way),
        starts_in_s=starts_in_s,
        takes_s=takes_s,
        counted=len(known),
    )


def start(
    running: Sequence[tuple[float, str]],
    waiting: Sequence[Waiting],
    mine: str,
    places: int,
    per_user: int,
) -> tuple[int, float | None]:
    """When a waiting search begins.

    Args:
        running: for each search that runs, the seconds that it still takes, and its owner.
        waiting: in the order in which they begin, as far as the limit for each user allows.
        mine: the id of one of those that wait.
        places, per_user: how many searches run at a time, in all and of one user.

    Returns:
        How many begin before it, as far as that can be told, and in how many seconds it begins,
        which is None where it depends on a time that nobody knows.

    Example:
        >>> queue = [Waiting("a", "ada", 100.0), Waiting("b", "bob", 100.0)]
        >>> start([(60.0, "eve")], queue, "b", places=1, per_user=2)
        (1, 160.0)
    """
    ends = list(running)
    heapq.heapify(ends)
    of = Counter(owner for _, owner in ends)
    left, now, ahead = list(waiting), 0.0, 0
    while True:
        index = 0
        while index < len(left) and len(ends) < places:
            one = left[index]
            if of[one.owner] >= per_user:
                index += 1
                continue
            if one.id == mine:
                return ahead, now
            del left[index]
            of[one.owner] += 1
            ahead += 1
            heapq.heappush(ends, (now + one.takes_s, one.owner))
        if not ends or places < 1 or ends[0][0] == float("inf"):
            before = next((place for place, one in enumerate(left) if one.id == mine), 0)
            return ahead + before, None
        now, owner = heapq.heappop(ends)
        of[owner] -= 1


def in_order(queued: Sequence[Row[Any]]) -> Iterator[Row[Any]]:
    """Rows by their time, except that rows of one owner swap places by priority."""
    own = defaultdict(list)
    for row in queued:
        own[row.owner].append(row)
    turns = {
        owner: iter(sorted(rows, key=lambda row: (row.priority, row.created)))
        for owner, rows in own.items()
    }
    for row in sorted(queued, key=lambda row: row.created):
        yield next(turns[row.owner])


def _median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) if seconds else float("inf")


def _durations(connection: Connection, recipe: str | None) -> list[float]:
    """The seconds that finished searches of a recipe took."""
    rows = connection.execute(
        sa.select(searches.c.id, searches.c.updated)
        .where(
            searches.c.status == "done",
            searches.c.attempt == 1,  # a later one reuses finished stages
            searches.c.request["recipe"].as_string() == recipe,
        )
        .order_by(searches.c.updated.desc())
        .limit(_COUNTED)
    ).all()
    began = _beginnings(connection, [row.id for row in rows])
    return [row.updated - began[row.id] for row in rows if row.id in began]


def _beginnings(connection: Connection, ids: Sequence[str]) -> dict[str, float]:
    """When the latest attempt at each search began."""
    query = sa.select(events.c.search_id, events.c.created, events.c.data).where(
        events.c.search_id.in_(ids), events.c.kind == "status"
    )
    found = {}
    for row in connection.execute(query.order_by(events.c.number)):
        if row.data["status"] == "running":
            found[row.search_id] = row.created
    return found


def _of_status(connection: Connection, status: str) -> Sequence[Any]:
    query = sa.select(
        searches.c.id,
        searches.c.owner,
        searches.c.priority,
        searches.c.created,
        searches.c.request["recipe"].as_string().label("recipe"),
    ).where(searches.c.status == status)
    return connection.execute(query).all()


def _places(connection: Connection, service: Service) -> int:
    """How many searches can run at a time on the workers that were seen lately."""
    jobs = service.settings.jobs
    alive = sa.select(sa.func.count()).select_from(workers)
    alive = alive.where(workers.c.seen > time.time() - jobs.worker_silence_s)
    room = int(connection.execute(alive).scalar_one()) * jobs.per_worker
    return min(max(jobs.at_once, jobs.per_worker), room)
