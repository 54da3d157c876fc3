"""Who may see what: everybody everything or, in a private service, what is theirs or shared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy import ColumnElement, Connection, Engine

from nas.service.service import Service
from nas.service.tables import shares
from nas.service.tokens import OWNER, Caller

Kind = Literal["search", "dataset", "teacher", "supernet", "target"]

EVERYONE = "*"
"""In place of a user: whoever has a token that reads."""

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
    with service.engine.connect() as connection:
        return connection.execute(sa.select(sa.literal(1)).where(condition)).first() is not None


def share(engine: Engine, kind: Kind, name: str, readers: Collection[str]) -> None:
    """Let these users see a thing besides its owner, and no others any more."""
    with engine.begin() as connection:
        forget_shares(connection, kind, name)
        rows = [{"kind": kind, "name": name, "reader": reader} for reader in sorted(set(readers))]
        if rows:
            connection.execute(shares.insert(), rows)


def forget_shares(connection: Connection, kind: Kind, name: str) -> None:
    """Of a thing that goes: a later one of its name is another's to share."""
    connection.execute(shares.delete().where(shares.c.kind == kind, shares.c.name == name))


def readers_of(engine: Engine, kind: Kind, names: Iterable[str]) -> dict[str, list[str]]:
    """With whom things of some names are shared, sorted."""
    found: dict[str, list[str]] = defaultdict(list)
    query = sa.select(shares.c.name, shares.c.reader).where(
        shares.c.kind == kind, shares.c.name.in_(list(names))
    )
    with engine.connect() as connection:
        for name, reader in connection.execute(query.order_by(shares.c.reader)):
            found[name].append(reader)
    return found
