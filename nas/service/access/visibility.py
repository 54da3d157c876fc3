"""Who may see what. In a private service: one's own things, and those shared with one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy import ColumnElement, Connection, Engine

from nas.service.access.tokens import OWNER, Caller
from nas.service.database.engine import first_row
from nas.service.database.tables import searches, shares, targets, uploads
from nas.service.service import Service

Kind = Literal["search", "dataset", "teacher", "supernet", "target"]

EVERYONE = "*"
"""In place of a user's name: whoever has a token with scope ``read``."""

Readers = Annotated[
    list[Annotated[str, Field(pattern=rf"^({OWNER.pattern}|\*)$")]],
    Field(max_length=100, examples=[["bob"]], description="Users, or `*` for everyone."),
]


def visible(
    service: Service, caller: Caller, kind: Kind, owner: Any, name: Any
) -> ColumnElement[bool]:
    """The condition under which a caller may see something.

    Args:
        owner, name: columns of the thing's table, or literals.
    """
    if not service.settings.private or caller.may("admin"):
        return sa.true()
    shared = sa.exists().where(
        shares.c.kind == kind, shares.c.name == name, shares.c.reader.in_((caller.owner, EVERYONE))
    )
    return sa.or_(owner == caller.owner, shared)


def is_visible(service: Service, caller: Caller, kind: Kind, owner: str, name: str) -> bool:
    """Whether a caller may see a thing of a name."""
    if not service.settings.private or caller.owner == owner:
        return True
    condition = visible(service, caller, kind, sa.literal(owner), sa.literal(name))
    return first_row(service.engine, sa.select(sa.literal(1)).where(condition)) is not None


def share(engine: Engine, kind: Kind, name: str, owner: str, readers: Collection[str]) -> bool:
    """Let these users, and no others, see a thing besides its owner.

    The thing's row is locked meanwhile. So a thing that is removed at that moment leaves no shares
    behind, which would hold for a later thing of the same name.

    Returns:
        whether there is such a thing of that owner.
    """
    with engine.begin() as connection:
        held = sa.select(sa.literal(1)).where(*_row(kind, name, owner)).with_for_update()
        if connection.execute(held).first() is None:
            return False
        forget_shares(connection, kind, name)
        rows = [{"kind": kind, "name": name, "reader": reader} for reader in sorted(set(readers))]
        if rows:
            connection.execute(shares.insert(), rows)
    return True


def _row(kind: Kind, name: str, owner: str) -> tuple[ColumnElement[bool], ...]:
    """The condition of a thing's row in its table."""
    if kind == "search":
        return searches.c.id == name, searches.c.owner == owner
    if kind == "target":
        return targets.c.name == name, targets.c.owner == owner
    return uploads.c.kind == kind, uploads.c.name == name, uploads.c.owner == owner


def forget_shares(connection: Connection, kind: Kind, name: str) -> None:
    """Remove the shares of a thing that is removed, or of an earlier one of its name."""
    connection.execute(shares.delete().where(shares.c.kind == kind, shares.c.name == name))


def readers_of(engine: Engine, kind: Kind, names: Iterable[str]) -> dict[str, list[str]]:
    """With whom each of some things is shared, sorted."""
    found: dict[str, list[str]] = defaultdict(list)
    query = sa.select(shares.c.name, shares.c.reader).where(
        shares.c.kind == kind, shares.c.name.in_(list(names))
    )
    with engine.connect() as connection:
        for name, reader in connection.execute(query.order_by(shares.c.reader)):
            found[name].append(reader)
    return found
