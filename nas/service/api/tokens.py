"""Tokens and the caller's own rights: ``/v1/tokens`` and ``/v1/whoami``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from latency.json_numbers import NUMBER
from nas.service.access.tokens import Scope, create_token, revoke_token
from nas.service.api.auth import Admin, Reader, The
from nas.service.api.bodies import StrictRoute
from nas.service.api.operation_ids import by_name
from nas.service.api.paging import Cursor, Limit, page_of
from nas.service.api.problems import ProblemError, described
from nas.service.api.schemas import moment
from nas.service.database.tables import tokens

router = APIRouter(
    prefix="/v1",
    route_class=StrictRoute,
    tags=["tokens"],
    responses=described(401, 403, 422, 429),
    generate_unique_id_function=by_name,
)

Owner = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._@-]{0,63}$", examples=["ada"])]
TokenId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", examples=["8796a5b4c3d2e1f0"])]


class WhoAmI(BaseModel):
    """The caller."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"owner": "ada", "scopes": ["read", "submit"], "private": False}
        }
    )

    owner: str
    scopes: list[Scope]
    private: bool = Field(
        description="Whether the service is: whether one sees one's own and what is shared alone."
    )


class NewToken(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"owner": "ada", "scopes": ["read", "submit"], "days": 90}},
    )

    owner: Owner
    scopes: list[Scope] = Field(min_length=1, max_length=4)
    days: Annotated[float, Field(gt=0, le=36_500), NUMBER] | None = Field(
        default=90.0, description="null never expires."
    )


class TokenRecord(BaseModel):
    """A token as it is kept: its hash is not shown."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "8796a5b4c3d2e1f0",
                "owner": "ada",
                "scopes": ["read", "submit"],
                "created": "2026-01-31T12:00:00Z",
                "expires": "2026-05-01T12:00:00Z",
                "revoked": None,
            }
        }
    )

    id: str
    owner: str
    scopes: list[Scope]
    created: datetime
    expires: datetime | None
    revoked: datetime | None


class TokenPage(BaseModel):
    """A page of tokens."""

    items: list[TokenRecord]
    next: str | None


class MadeToken(BaseModel):
    """A token, shown this once."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "8796a5b4c3d2e1f0",
                "token": "tb_7Jp0c9sYc1cS4m2hV6Qn3rKxE8tUwZaBdFgLiOpRsTu",
            }
        }
    )

    id: str
    token: str


@router.get("/whoami")
async def whoami(caller: Reader, service: The) -> WhoAmI:
    """Who the token belongs to, and what it allows."""
    private = service.settings.private
    return WhoAmI(owner=caller.owner, scopes=sorted(caller.scopes), private=private)


@router.get("/tokens")
def list_tokens(_: Admin, service: The, limit: Limit = 50, cursor: Cursor = None) -> TokenPage:
    """All tokens that were ever made, newest first."""
    rows, further = page_of(
        service.engine, sa.select(tokens), tokens.c.created, tokens.c.id, limit, cursor
    )
    items = [
        TokenRecord(
            id=row.id,
            owner=row.owner,
            scopes=row.scopes,
            created=moment(row.created),
            expires=None if row.expires is None else moment(row.expires),
            revoked=None if row.revoked is None else moment(row.revoked),
        )
        for row in rows
    ]
    return TokenPage(items=items, next=further)


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
