"""How long a search is likely to wait and to take, by how long such searches took here before.

A forecast, and no promise: recipes have a number of steps, and what a step takes depends on the
data. Which user comes next is settled as workers become free; see docs/service.md.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from nas.service.searches import SearchRow
from nas.service.service import Service
from nas.service.tables import events, searches, workers

_COUNTED = 10
"""Of a recipe, the newest searches that were done at their first attempt."""
_NEXT = "next"
"""In place of an id: the search that would be submitted now."""


@dataclass(frozen=True)
class Waiting:
    """A search that waits.

    Args:
        takes_s: seconds, once it has begun; infinite where nobody can tell.
    """

    id: str
    owner: str
    takes_s: float


@dataclass(frozen=True)
class Forecast:
    """What there is to say of a search before it has ended.

    Args:
        status: that it has; None of one that is not submitted.
        ahead: searches that are likely to begin before it, as far as that can be told.
        running: searches under way.
        starts_in_s: None where nobody can tell, and of one that runs or has ended.
        takes_s: from its beginning to its end, the median of earlier ones; None without any.
        counted: how many earlier ones that is the median of.
    """

    status: str | None
    ahead: int
    running: int
    starts_in_s: float | None
    takes_s: float | None
    counted: int


def forecast(
    service: Service, recipe: str | None, owner: str, search: SearchRow | None = None
) -> Forecast:
    """Of a search that there is, or of one of an owner's that would be submitted now.

    Args:
        recipe: its name; None is one of a client's own.
    """
    now = time.time()
    with service.engine.connect() as connection:
        took = _Durations(connection)
        queued = _of_status(connection, "queued")
        under_way = _of_status(connection, "running")
        began = _beginnings(connection, [row.id for row in under_way])
        places = _places(connection, service)
        known = took.of(recipe)
        left = [
            (max(0.0, took.median(row.recipe) - (now - began.get(row.id, now))), row.owner)
            for row in under_way
        ]
        waiting = [Waiting(row.id, row.owner, took.median(row.recipe)) for row in in_order(queued)]
    status = None if search is None else search.status
    takes_s = statistics.median(known) if known else None
    ahead, starts_in_s = 0, None
    if search is None or search.status == "queued":
        mine = _NEXT if search is None else search.id
        if search is None:
            waiting.append(Waiting(_NEXT, owner, float("inf")))
        per_user = min(service.settings.jobs.per_user, service.settings.jobs.at_once)
        ahead, starts_in_s = start(left, waiting, mine, places, per_user)
    return Forecast(status, ahead, len(under_way), starts_in_s, takes_s, len(known))


def start(
    running: Sequence[tuple[float, str]],
    waiting: Sequence[Waiting],
    mine: str,
    places: int,
    per_user: int,
) -> tuple[int, float | None]:
    """When a search begins that waits among others.

    Args:
        running: seconds that each search under way still takes, and its owner.
        waiting: in the order in which they begin, if no user has as many under way as one may.
        mine: the id of one of those.
        places, per_user: searches that run at a time, in all and of one user.

    Returns:
        How many begin before it, as far as that can be told, and in how many seconds it does; None
        where that hangs on what is not known.

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
            return ahead + _before(left, mine), None
        now, owner = heapq.heappop(ends)
        of[owner] -= 1


def in_order(queued: Sequence[Row[Any]]) -> Iterator[Row[Any]]:
    """Rows by when they were made, but that those of one owner change places by priority."""
    own = defaultdict(list)
    for row in queued:
        own[row.owner].append(row)
    turns = {
        owner: iter(sorted(rows, key=lambda row: (row.priority, row.created)))
        for owner, rows in own.items()
    }
    for row in sorted(queued, key=lambda row: row.created):
        yield next(turns[row.owner])


def _before(waiting: Sequence[Waiting], mine: str) -> int:
    return next((place for place, one in enumerate(waiting) if one.id == mine), 0)


class _Durations:
    """Seconds that finished searches took, by recipe; each is asked for once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[str | None, list[float]] = {None: []}

    def median(self, recipe: str | None) -> float:
        known = self.of(recipe)
        return statistics.median(known) if known else float("inf")

    def of(self, recipe: str | None) -> list[float]:
        if recipe not in self._known:
            query = (
                sa.select(searches.c.id, searches.c.updated)
                .where(
                    searches.c.status == "done",
                    searches.c.attempt == 1,  # a later one reuses what was finished
                    searches.c.request["recipe"].as_string() == recipe,
                )
                .order_by(searches.c.updated.desc())
                .limit(_COUNTED)
            )
            rows = self._connection.execute(query).all()
            began = _beginnings(self._connection, [row.id for row in rows])
            self._known[recipe] = [row.updated - began[row.id] for row in rows if row.id in began]
        return self._known[recipe]


def _beginnings(connection: Connection, ids: Sequence[str]) -> dict[str, float]:
    """When each search, in its latest attempt, was taken up."""
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
    """How many searches run at a time: by the workers that were seen lately."""
    jobs = service.settings.jobs
    alive = sa.select(sa.func.count()).select_from(workers)
    alive = alive.where(workers.c.seen > time.time() - jobs.worker_silence_s)
    room = int(connection.execute(alive).scalar_one()) * jobs.per_worker
    return min(max(jobs.at_once, jobs.per_worker), room)
