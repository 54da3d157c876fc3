"""Tokens and the caller's own rights: ``/v1/tokens`` and ``/v1/whoami``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import sqlalchemy as sa
from fastapi import Path
from pydantic import BaseModel, Field

from latency.json_numbers import NUMBER
from nas.service.access.tokens import Scope, create_token, revoke_token
from nas.service.api.auth import Admin, Reader, The
from nas.service.api.bodies import strict_router
from nas.service.api.owned import Page
from nas.service.api.paging import Cursor, Limit, page_of
from nas.service.api.problems import ProblemError, described
from nas.service.database.tables import tokens

router = strict_router("tokens")

Owner = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._@-]{0,63}$", examples=["ada"])]
TokenId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", examples=["8796a5b4c3d2e1f0"])]


class WhoAmI(BaseModel):
    """The caller."""

    owner: str
    scopes: list[Scope]
    private: bool = Field(
        description="Whether the service is: whether one sees one's own and what is shared alone."
    )


class NewToken(
    BaseModel,
    extra="forbid",
    json_schema_extra={"example": {"owner": "ada", "scopes": ["read", "submit"], "days": 90}},
):
    """A token to be made."""

    owner: Owner
    scopes: list[Scope] = Field(min_length=1, max_length=4)
    days: Annotated[float, Field(gt=0, le=36_500), NUMBER] | None = Field(
        default=90.0, description="null never expires."
    )


class TokenRecord(BaseModel, from_attributes=True):
    """A token as it is kept: its hash is not shown."""

    id: str
    owner: str
    scopes: list[Scope]
    created: datetime
    expires: datetime | None
    revoked: datetime | None


class MadeToken(BaseModel):
    """A token, shown this once."""

    id: str
    token: str


@router.get("/whoami")
async def whoami(caller: Reader, service: The) -> WhoAmI:
    """Who the token belongs to, and what it allows."""
    private = service.settings.private
    return WhoAmI(owner=caller.owner, scopes=sorted(caller.scopes), private=private)


@router.get("/tokens")
def list_tokens(
    _: Admin, service: The, limit: Limit = 50, cursor: Cursor = None
) -> Page[TokenRecord]:
    """All tokens that were ever made, newest first."""
    rows, further = page_of(
        service.engine, sa.select(tokens), tokens.c.created, tokens.c.id, limit, cursor
    )
    return Page(items=[TokenRecord.model_validate(row) for row in rows], next=further)


@router.post("/tokens", status_code=201, responses=described(409))
def make_token(new: NewToken, _: Admin, service: The) -> MadeToken:
    """Make a token. It is shown in this response, and never again.

    Not where the service asks for none: whoever reaches it could make one that outlives that.
    """
    if not service.settings.needs_token:
        raise ProblemError(409, "the service asks for no token: make one by nas admin token create")
    token_id, token = create_token(service.engine, new.owner, new.scopes, days=new.days)
    return MadeToken(id=token_id, token=token)


@router.delete("/tokens/{token_id}", status_code=204, responses=described(404))
def end_token(token_id: TokenId, _: Admin, service: The) -> None:
    """Revoke a token: it is refused within two seconds."""
    if not revoke_token(service.engine, token_id):
        raise ProblemError(404, f"no token {token_id} that is in force")
