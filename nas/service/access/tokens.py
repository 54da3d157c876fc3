"""Bearer tokens: shown once when made, kept as hashes, with scopes and an end."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy import Engine

from nas.service.database.engine import execute, first_row
from nas.service.database.tables import tokens
from supernet.errors import NasError

Scope = Literal["read", "submit", "device", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a token allows: to see; to start, cancel and upload; to be a device's agent; to make tokens,
read the audit log and act on others' searches."""

PREFIX = "tb_"

OWNER = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
"""What a user may be called."""


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Args:
        owner: the user's name.
        scopes: that the token has.
        token_id: None where no token is asked for.
    """

    owner: str
    scopes: frozenset[Scope]
    token_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the token has a scope; ``admin`` has all."""
        return scope in self.scopes or "admin" in self.scopes


ANYONE = Caller("local", frozenset(SCOPES))
"""The caller where no token is asked for."""


def create_token(
    engine: Engine, owner: str, scopes: Collection[str], *, days: float | None = 90.0
) -> tuple[str, str]:
    """A new token.

    Tokens are 256 random bits, so a plain hash keeps them as safe as a slow one would.

    Args:
        days: until it expires; None never.

    Returns:
        Its id, and the token itself, which is not kept.

    Raises:
        NasError: no scopes, an unknown one, or an end that is not ahead.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise NasError(f"scopes must be some of {', '.join(SCOPES)}, not {unknown or 'none'}")
    if days is not None and not 0 < days <= 36_500:
        raise NasError(f"days must be above 0 and at most 36500, not {days!r}")
    token_id, token = secrets.token_hex(8), PREFIX + secrets.token_urlsafe(32)
    now = time.time()
    execute(
        engine,
        tokens.insert().values(
            id=token_id,
            digest=_digest(token),
            owner=owner,
            scopes=sorted(set(scopes)),
            created=now,
            expires=None if days is None else now + 86_400 * days,
        ),
    )
    return token_id, token


def find_caller(engine: Engine, token: str) -> Caller | None:
    """Whose token it is; None where it is unknown, revoked or expired."""
    query = sa.select(tokens.c.id, tokens.c.owner, tokens.c.scopes).where(
        tokens.c.digest == _digest(token),
        tokens.c.revoked.is_(None),
        sa.or_(tokens.c.expires.is_(None), tokens.c.expires > time.time()),
    )
    row = first_row(engine, query)
    return None if row is None else Caller(row.owner, frozenset(row.scopes), row.id)


def revoke_token(engine: Engine, token_id: str) -> bool:
    """End a token now: whether it was in force."""
    mine = (tokens.c.id == token_id, tokens.c.revoked.is_(None))
    return execute(engine, tokens.update().where(*mine).values(revoked=time.time())) > 0


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
