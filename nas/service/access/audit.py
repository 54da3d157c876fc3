"""The audit log: who did what to what, and whether it was allowed."""

from __future__ import annotations

import time

from sqlalchemy import Engine

from nas.service.access.tokens import Caller
from nas.service.database.engine import execute
from nas.service.database.tables import audit
from nas.service.running.logs import without_secrets
from supernet.errors import printable

NOBODY = "-"
"""The actor of a request without a good token."""

OPERATOR = Caller("(operator)", frozenset({"admin"}))
"""Who runs ``nas admin`` on the service's machine; no token has such an owner."""


def record(
    engine: Engine,
    caller: Caller | None,
    action: str,
    subject: str,
    status: int,
    *,
    request_id: str,
    address: str,
) -> None:
    """Write an entry.

    Args:
        action: the method and the route's template.
        subject: the route's parameters, which say what was acted on.
        status: the HTTP status of the answer.
    """
    execute(
        engine,
        audit.insert().values(
            created=time.time(),
            actor=NOBODY if caller is None else caller.owner,
            token_id=None if caller is None else caller.token_id,
            action=action[:64],
            # A client chose the path: no database may refuse it, and no terminal obey it.
            subject=printable(without_secrets(subject), "?")[:128],
            outcome=outcome_of(status),
            request_id=without_secrets(request_id),
            address=address[:64],
        ),
    )


def outcome_of(status: int) -> str:
    """An HTTP status in the audit log's words.

    Example:
        >>> [outcome_of(status) for status in (201, 403, 422, 500)]
        ['done', 'refused', 'invalid', 'failed']
    """
    if status < 400:
        return "done"
    if status in (401, 403):
        return "refused"
    return "invalid" if status < 500 else "failed"
