"""What searches, devices and uploads have in common: an owner, and users they are shared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlalchemy import Row

from nas.service.access.tokens import Caller
from nas.service.access.visibility import Kind, Readers, readers_of, share, visible
from nas.service.api.paging import page_of
from nas.service.api.problems import ProblemError
from nas.service.database.tables import searches, targets, uploads
from nas.service.service import Service

Item = TypeVar("Item")
SharedWith = Annotated[
    list[str],
    Field(
        description="Users who may see and use it besides its owner, or `*` for everyone. This "
        "matters only in a private service."
    ),
]


class Page(BaseModel, Generic[Item]):
    """Some of a list, newest first."""

    items: list[Item]
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class Sharing(BaseModel, extra="forbid", json_schema_extra={"example": {"shared_with": ["bob"]}}):
    """With whom something is shared."""

    shared_with: Readers


def find(service: Service, caller: Caller, kind: Kind, name: str) -> Row[Any]:
    """The row of something that the caller may see.

    Args:
        name: the id of a search, the name of anything else.

    Raises:
        ProblemError: 404, whether there is none or the caller may not see it.
    """
    query = _visible_rows(service, caller, kind).where(_key(kind) == name)
    with service.engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise ProblemError(404, f"no {kind} {name}")
    return row


def find_own(service: Service, caller: Caller, kind: Kind, name: str) -> Row[Any]:
    """The row of something that the caller may change.

    Raises:
        ProblemError: as :func:`find`; 403 for who is neither its owner nor an administrator.
    """
    row = find(service, caller, kind, name)
    check_owner(caller, kind, name, row.owner)
    return row


def check_owner(caller: Caller, kind: Kind, name: str, owner: str) -> None:
    """Refuse a caller who is neither the owner of something nor an administrator.

    Raises:
        ProblemError: 403.
    """
    if owner != caller.owner and not caller.may("admin"):
        raise ProblemError(403, f"{kind} {name} is {owner}'s: its owner or an admin changes it")


def find_page(
    service: Service,
    caller: Caller,
    kind: Kind,
    limit: int,
    cursor: str | None,
    *conditions: sa.ColumnElement[bool],
) -> tuple[list[dict[str, Any]], str | None]:
    """The columns of those rows of a page that the caller may see, each with its ``shared_with``;
    and the cursor of the next page.
    """
    query = _visible_rows(service, caller, kind).where(*conditions)
    key = _key(kind)
    rows, further = page_of(service.engine, query, key.table.c.created, key, limit, cursor)
    readers = readers_of(service.engine, kind, [row._mapping[key] for row in rows])
    return [{**row._mapping, "shared_with": readers[row._mapping[key]]} for row in rows], further


def shown(service: Service, kind: Kind, row: Row[Any]) -> Mapping[str, Any]:
    """A row's columns and its ``shared_with``."""
    name = row._mapping[_key(kind)]
    return {**row._mapping, "shared_with": readers_of(service.engine, kind, [name])[name]}


def share_own(service: Service, caller: Caller, kind: Kind, name: str, readers: list[str]) -> None:
    """Share something of the caller's with these users, and no others any more.

    Raises:
        ProblemError: as :func:`find_own`.
    """
    row = find_own(service, caller, kind, name)
    if not share(service.engine, kind, name, row.owner, readers):
        raise ProblemError(404, f"no {kind} {name}")


def _key(kind: Kind) -> sa.Column[Any]:
    """The column by which people name things of a kind."""
    if kind == "search":
        return searches.c.id
    return targets.c.name if kind == "target" else uploads.c.name


def _visible_rows(service: Service, caller: Caller, kind: Kind) -> sa.Select[Any]:
    key = _key(kind)
    table = key.table
    query = sa.select(table).where(visible(service, caller, kind, table.c.owner, key))
    return query.where(uploads.c.kind == kind) if table is uploads else query
