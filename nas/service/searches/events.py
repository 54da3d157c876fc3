"""The events of a search, numbered from 1: its worker writes them, and watchers read them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from nas.service.database.tables import events, searches

Kind = Literal["status", "stage", "progress", "search", "line"]


@dataclass(frozen=True)
class Event:
    """Something that happened in a search.

    Args:
        data: plain values; docs/http.md lists them for each kind.
    """

    number: int
    kind: Kind
    data: Mapping[str, Any]


def append(connection: Connection, search_id: str, kind: Kind, data: Mapping[str, Any]) -> None:
    """Add an event in the connection's transaction, unless the search was removed.

    Those who write events of one search take turns, as they lock the search's row.
    """
    connection.execute(sa.select(searches.c.id).where(searches.c.id == search_id).with_for_update())
    last = sa.select(sa.func.coalesce(sa.func.max(events.c.number), 0)).where(
        events.c.search_id == search_id
    )
    own = (
        searches.c.id,
        last.scalar_subquery() + 1,
        sa.literal(time.time()),
        sa.literal(kind),
        sa.literal(dict(data), sa.JSON()),
    )
    connection.execute(
        events.insert().from_select(
            ["search_id", "number", "created", "kind", "data"],
            sa.select(*own).where(searches.c.id == search_id),
        )
    )


def record(engine: Engine, search_id: str, kind: Kind, data: Mapping[str, Any]) -> None:
    """Add an event in a transaction of its own."""
    with engine.begin() as connection:
        append(connection, search_id, kind, data)


def read_after(
    engine: Engine, positions: Mapping[str, int], most: int = 500
) -> dict[str, Sequence[Event]]:
    """The next events of several searches; searches without new events are left out.

    Args:
        positions: for each search, the number of the last event that is known.
        most: how many events of one search.
    """
    found: dict[str, Sequence[Event]] = {}
    with engine.connect() as connection:
        last = dict(
            connection.execute(
                sa.select(events.c.search_id, sa.func.max(events.c.number))
                .where(events.c.search_id.in_(list(positions)))
                .group_by(events.c.search_id)
            ).all()
        )
        for search_id, position in positions.items():
            if last.get(search_id, 0) > position:
                rows = connection.execute(
                    sa.select(events.c.number, events.c.kind, events.c.data)
                    .where(events.c.search_id == search_id, events.c.number > position)
                    .order_by(events.c.number)
                    .limit(most)
                )
                found[search_id] = [Event(*row) for row in rows]
    return found
