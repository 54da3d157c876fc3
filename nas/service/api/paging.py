"""Pages of a list, newest first: a cursor stands for the last one that was shown."""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Query
from sqlalchemy import ColumnElement, Engine, Row, Select

from nas.service.api.problems import ProblemError

Limit = Annotated[int, Query(ge=1, le=200, description="Of a page.")]
Cursor = Annotated[
    str | None, Query(max_length=200, description="`next` of the page before; none for the first.")
]


def cursor_of(created: float, key: str) -> str:
    """What stands for a row that was made at a time and has a key."""
    return base64.urlsafe_b64encode(json.dumps([created, key]).encode()).decode().rstrip("=")


def after(cursor: str, created: ColumnElement[Any], key: ColumnElement[Any]) -> ColumnElement[bool]:
    """The condition of rows that come after a cursor's, newest first.

    Raises:
        ProblemError: no cursor of ours.
    """
    try:
        when, last = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        when, last = float(when), str(last)
        if not (math.isfinite(when) and last.isprintable()):
            raise ValueError("no database takes these")
    except (ValueError, TypeError, binascii.Error) as error:
        raise ProblemError(422, f"cursor {cursor!r} is not one of this list's") from error
    return sa.or_(created < when, sa.and_(created == when, key > last))


def page_of(
    engine: Engine,
    query: Select[Any],
    created: ColumnElement[Any],
    key: ColumnElement[Any],
    limit: int,
    cursor: str | None,
) -> tuple[list[Row[Any]], str | None]:
    """The rows of a page, newest first, and the cursor of the next page, if there is one.

    Args:
        query: without order and limit; it selects both columns.
        created: when a row was made.
        key: what tells apart those of one moment; ordered by its text.

    Raises:
        ProblemError: no cursor of ours.
    """
    text = sa.cast(key, sa.String)
    if cursor is not None:
        query = query.where(after(cursor, created, text))
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(created.desc(), text).limit(limit + 1)).all()
    if len(rows) <= limit:
        return list(rows), None
    last = rows[limit - 1]._mapping
    return list(rows[:limit]), cursor_of(last[created], str(last[key]))
