"""Webhooks: an address that is told of a search's end, signed by the Standard Webhooks scheme.

What is to be sent is written in the transaction that ends the search, so that no crash loses it; it
goes out soon after, and again after each refusal, for some hours.

Source: Standard Webhooks, https://www.standardwebhooks.com (headers, signature, retries).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
import threading
import time
from collections.abc import Collection
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import SQLAlchemyError

from nas.service import events
from nas.service.tables import deliveries, searches
from supernet.errors import NasError

_log = logging.getLogger(__name__)

PAUSES_S = (5.0, 60.0, 300.0, 1800.0, 7200.0)
"""Between one try and the next; after the last, it is given up."""
_ANSWER_S = 10.0
_EVERY_S = 2.0
_CLAIMED_S = 60.0
"""For so long who has begun a delivery has it alone."""


def check_webhook(url: str, hosts: Collection[str]) -> None:
    """Refuse an address that the service is not to call.

    Args:
        hosts: that the operator allows, with their port unless it is HTTPS's own.

    Raises:
        NasError: no HTTPS address, or of another host.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.lower().removesuffix(":443")
    except ValueError as error:
        raise NasError(f"webhook: {url!r} is no address: {error}") from error
    if parts.scheme != "https" or not url.isascii() or not url.isprintable() or " " in url:
        raise NasError(f"webhook: {url!r} is no https:// address")
    if host not in {one.lower() for one in hosts}:
        allowed = ", ".join(hosts) or "none; the operator lists them under webhook_hosts"
        raise NasError(f"webhook: host {host!r} is not allowed; allowed are {allowed}")


def post(connection: Connection, search_id: str) -> None:
    """Have a search that has just ended be told of, if it names a webhook, within a transaction."""
    query = sa.select(searches).where(searches.c.id == search_id)
    search = connection.execute(query).one()
    if search.webhook is None:
        return
    now = time.time()
    connection.execute(
        deliveries.insert().values(
            id=f"msg_{secrets.token_hex(8)}",
            search_id=search_id,
            url=search.webhook,
            body=_body(search, now),
            tries=0,
            due=now,
        )
    )


def deliver(engine: Engine, key: bytes | None, ended: threading.Event) -> None:
    """Send what is due, again and again, until ``ended``.

    Args:
        key: that messages are signed by; None sends them unsigned.
    """
    with httpx.Client(timeout=_ANSWER_S, follow_redirects=False) as http:
        while not ended.wait(_EVERY_S):
            try:
                while not ended.is_set() and (one := claim(engine, time.time())) is not None:
                    _try(engine, http, one, key)
            except SQLAlchemyError as error:
                _log.warning("no webhook is sent: %s", type(error).__name__)


def claim(engine: Engine, now: float) -> Row[tuple[object, ...]] | None:
    """What is due for longest, if anything is: it is then this caller's to send for a minute."""
    query = sa.select(deliveries).where(deliveries.c.due <= now).order_by(deliveries.c.due).limit(1)
    with engine.begin() as connection:
        one = connection.execute(query).one_or_none()
        if one is None:
            return None
        taken = connection.execute(
            deliveries.update()
            .where(deliveries.c.id == one.id, deliveries.c.due == one.due)
            .values(due=now + _CLAIMED_S)
        )
    return one if taken.rowcount else None


def settle(engine: Engine, one: Row[tuple[object, ...]], failure: str | None, now: float) -> None:
    """Note how a try ended: done with, to be tried again, or given up and told in the search."""
    mine = deliveries.c.id == one.id
    given_up = failure is not None and one.tries >= len(PAUSES_S)
    with engine.begin() as connection:
        if failure is None or given_up:
            connection.execute(deliveries.delete().where(mine))
        else:
            due = now + PAUSES_S[one.tries]
            connection.execute(deliveries.update().where(mine).values(tries=one.tries + 1, due=due))
        if given_up:
            text = f"webhook {urlsplit(one.url).netloc} was not told: {failure}; no further try"
            line = {"text": text, "level": "warning"}
            events.append(connection, one.search_id, "line", line)
    if failure is not None:
        _log.warning("webhook of search %s: %s", one.search_id, failure)


def signing_key(secret: str | None) -> bytes | None:
    """The key of a secret: what follows ``whsec_``, in base64.

    Raises:
        NasError: it is no such secret.
    """
    if secret is None:
        return None
    try:
        if not secret.startswith("whsec_"):
            raise ValueError("another beginning")
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise NasError(
            "NAS_WEBHOOK_SECRET: it must be whsec_ and base64, such as "
            "whsec_$(openssl rand -base64 32)"
        ) from error


def signature(key: bytes, message_id: str, timestamp: int, body: str) -> str:
    """The header ``webhook-signature``: HMAC-SHA256 of ``id.timestamp.body``."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def _try(
    engine: Engine, http: httpx.Client, one: Row[tuple[object, ...]], key: bytes | None
) -> None:
    now = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "tailorbert",
        "webhook-id": one.id,
        "webhook-timestamp": str(now),
    }
    if key is not None:
        headers["webhook-signature"] = signature(key, one.id, now, one.body)
    failure = None
    try:
        with http.stream("POST", one.url, content=one.body, headers=headers) as answer:
            if not answer.is_success:
                failure = f"HTTP {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        failure = type(error).__name__
    settle(engine, one, failure, time.time())


def _body(search: Row[tuple[object, ...]], now: float) -> str:
    """Who is told asks for the rest, with a token of theirs."""
    told = {name: getattr(search, name) for name in ("id", "name", "owner", "attempt", "error")}
    return json.dumps(
        {
            "type": f"search.{search.status}",
            "timestamp": datetime.fromtimestamp(now, UTC).isoformat(),
            "data": {**told, "status": search.status},
        }
    )
