"""How long a search is likely to wait and to take, by how long such searches took here before.

A forecast, and no promise: recipes have a number of steps, and what a step takes depends on the
data. Who comes first among users is settled as workers become free; see docs/service.md.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from nas.service.searches import SearchRow
from nas.service.service import Service
from nas.service.tables import events, searches, workers

_LATEST = 100
"""Finished searches that are looked at; the newest ten of a recipe count."""
_COUNTED = 10


@dataclass(frozen=True)
class Forecast:
    """What there is to say of a search before it has ended.

    Args:
        ahead: searches that are likely to begin before it.
        running: searches under way.
        starts_in_s: None where nobody can tell; 0 where it runs or may begin at once.
        takes_s: from its beginning to its end, the median of earlier ones; None without any.
        counted: how many earlier ones that is the median of.
    """

    ahead: int
    running: int
    starts_in_s: float | None
    takes_s: float | None
    counted: int


def forecast(service: Service, recipe: str | None, search: SearchRow | None = None) -> Forecast:
    """Of a search that there is, or of one by a recipe that would be submitted now.

    Args:
        recipe: its name; None is one of a client's own.
    """
    with service.engine.connect() as connection:
        took = _durations(connection)
        waiting = _of_status(connection, "queued")
        under_way = _of_status(connection, "running")
        began = _beginnings(connection, [row.id for row in under_way])
        places = _places(connection, service)
    known = took.get(recipe or "", ())
    takes_s = statistics.median(known) if known else None
    if search is not None and search.status == "running":
        return Forecast(0, len(under_way), 0.0, takes_s, len(known))
    ahead = waiting if search is None else [row for row in waiting if _comes_before(row, search)]
    now = time.time()
    left = [_left(took, row, now - began.get(row.id, now)) for row in under_way]
    lengths = [_median(took, row) for row in ahead]
    starts_in_s = start(left, lengths, places)
    return Forecast(len(ahead), len(under_way), starts_in_s, takes_s, len(known))


def start(left: Sequence[float | None], ahead: Sequence[float | None], places: int) -> float | None:
    """When a search begins that waits behind others.

    Args:
        left: seconds that each search under way still takes; None is not known.
        ahead: seconds of each that comes before, in order.
        places: searches that run at a time.

    Returns:
        seconds, or None where it hangs on what is not known.

    Example:
        >>> start([60.0, 30.0], [100.0], places=2)
        60.0
    """
    if places < 1:
        return None
    unknown = float("inf")
    ends = [unknown if one is None else one for one in left]
    ends += [0.0] * (places - len(ends))
    heapq.heapify(ends)
    while len(ends) > places:  # more run than there is room for: the first to end have no follower
        heapq.heappop(ends)
    for one in ahead:
        heapq.heappush(ends, heapq.heappop(ends) + (unknown if one is None else one))
    return ends[0] if ends[0] < unknown else None


def _comes_before(row: SearchRow, search: SearchRow) -> bool:
    if row.owner == search.owner:
        return (row.priority, row.created) < (search.priority, search.created)
    return bool(row.created < search.created)


def _durations(connection: Connection) -> dict[str, list[float]]:
    """Seconds that the latest finished searches took, by the name of their recipe."""
    query = sa.select(searches).where(searches.c.status == "done")
    query = query.order_by(searches.c.updated.desc()).limit(_LATEST)
    rows = connection.execute(query).all()
    began = _beginnings(connection, [row.id for row in rows])
    found: dict[str, list[float]] = {}
    for row in rows:
        known = found.setdefault(_recipe(row), [])
        if row.id in began and len(known) < _COUNTED:
            known.append(row.updated - began[row.id])
    return found


def _beginnings(connection: Connection, ids: Sequence[str]) -> dict[str, float]:
    """When each search, in its latest attempt, was taken up."""
    query = sa.select(events.c.search_id, events.c.created, events.c.data).where(
        events.c.search_id.in_(list(ids)), events.c.kind == "status"
    )
    found = {}
    for row in connection.execute(query.order_by(events.c.number)):
        if row.data["status"] == "running":
            found[row.search_id] = row.created
    return found


def _of_status(connection: Connection, status: str) -> list[SearchRow]:
    query = sa.select(searches).where(searches.c.status == status)
    return list(connection.execute(query.order_by(searches.c.priority, searches.c.created)))


def _places(connection: Connection, service: Service) -> int:
    """How many searches run at a time: by the workers that were seen lately."""
    jobs = service.settings.jobs
    alive = sa.select(sa.func.count()).select_from(workers)
    alive = alive.where(workers.c.seen > time.time() - jobs.worker_silence_s)
    room = int(connection.execute(alive).scalar_one()) * jobs.per_worker
    return min(max(jobs.at_once, jobs.per_worker), room)


def _median(took: dict[str, list[float]], row: SearchRow) -> float | None:
    known = took.get(_recipe(row))
    return statistics.median(known) if known else None


def _left(took: dict[str, list[float]], row: SearchRow, elapsed: float) -> float | None:
    whole = _median(took, row)
    return None if whole is None else max(0.0, whole - elapsed)


def _recipe(row: SearchRow) -> str:
    recipe = row.request["recipe"]
    return recipe if isinstance(recipe, str) else ""
