"""Webhooks: a message to an address when a search ends, signed by the Standard Webhooks scheme.

A message is written in the transaction that ends the search, so no crash loses it. It is sent soon
after and, when the receiver does not take it, again for some hours.

Source: Standard Webhooks, https://www.standardwebhooks.com (headers, signature, retries).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import secrets
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import SQLAlchemyError

from nas.service.database.tables import deliveries, searches
from nas.service.searches import events
from supernet.errors import NasError

_log = logging.getLogger(__name__)

PAUSES_S = (5.0, 60.0, 300.0, 1800.0, 7200.0)
"""The pauses between one try and the next; after the last, a message is given up."""
_ANSWER_S = 15.0
"""The time in which a receiver must answer, even if it answers byte by byte."""
_CLAIMED_S = 60.0
"""How long a message is this process's alone to send."""
_EVERY_S = 2.0
_AT_ONCE = 20
"""How many messages are sent side by side: a slow receiver delays the others once at most."""


@dataclass(frozen=True)
class Delivery:
    """A message that this process may send until its claim ends.

    Args:
        tries: how many failed before.
        until: when the claim ends, in seconds since 1970.
    """

    id: str
    search_id: str
    url: str
    body: str
    tries: int
    until: float


def check_webhook(url: str, hosts: Collection[str]) -> None:
    """Refuse an address that the service is not to call.

    Args:
        hosts: those that the operator allows, with their port unless it is 443.

    Raises:
        NasError: it is no HTTPS address, or is of another host.
    """
    try:
        parts = urlsplit(url)
        host = _plain(parts.netloc)
    except ValueError as error:
        raise NasError(f"webhook: {url!r} is no address: {error}") from error
    if parts.scheme != "https" or not url.isascii() or not url.isprintable() or " " in url:
        raise NasError(f"webhook: {url!r} is no https:// address")
    if host not in map(_plain, hosts):
        allowed = ", ".join(hosts) or "none; the operator lists them under webhook_hosts"
        raise NasError(f"webhook: host {host!r} is not allowed; allowed are {allowed}")


def _plain(host: str) -> str:
    return host.lower().removesuffix(":443")


def post(connection: Connection, search_id: str) -> None:
    """Write the message of a search that ends in this transaction, if it names a webhook."""
    search = connection.execute(sa.select(searches).where(searches.c.id == search_id)).one()
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


def deliver(
    engine: Engine, key: bytes | None, hosts: Collection[str], ended: threading.Event
) -> None:
    """Send the messages that are due, again and again, until ``ended``.

    Args:
        key: signs the messages; None leaves them unsigned.
        hosts: those that may be called.
    """
    while not ended.wait(_EVERY_S):
        try:
            while not ended.is_set() and (claimed := claim(engine, time.time())):
                asyncio.run(_send_all(engine, claimed, key, hosts))
        except SQLAlchemyError as error:
            _log.warning("no webhook is sent: %s", type(error).__name__)
        except Exception:  # noqa: BLE001 - one message must not keep back the others
            _log.exception("no webhook is sent")


def claim(engine: Engine, now: float) -> list[Delivery]:
    """Claim the messages that are due for longest: the caller has a minute to send them."""
    query = sa.select(deliveries).where(deliveries.c.due <= now)
    claimed, until = [], now + _CLAIMED_S
    with engine.begin() as connection:
        for one in connection.execute(query.order_by(deliveries.c.due).limit(_AT_ONCE)).all():
            mine = sa.and_(deliveries.c.id == one.id, deliveries.c.due == one.due)
            if connection.execute(deliveries.update().where(mine).values(due=until)).rowcount:
                claimed.append(Delivery(one.id, one.search_id, one.url, one.body, one.tries, until))
    return claimed


def settle(engine: Engine, one: Delivery, failure: str | None, now: float) -> None:
    """Note how a try ended: sent, to be tried again, or given up, which the search's log tells.

    Nothing is noted if the claim has ended: another process may have claimed the message.
    """
    mine = sa.and_(deliveries.c.id == one.id, deliveries.c.due == one.until)
    given_up = failure is not None and one.tries >= len(PAUSES_S)
    with engine.begin() as connection:
        if failure is None or given_up:
            noted = connection.execute(deliveries.delete().where(mine))
        else:
            values = {"tries": one.tries + 1, "due": now + PAUSES_S[one.tries]}
            noted = connection.execute(deliveries.update().where(mine).values(**values))
        if given_up and noted.rowcount:
            text = f"webhook {urlsplit(one.url).netloc} was not told: {failure}; no further try"
            line = {"text": text, "level": "warning"}
            events.append(connection, one.search_id, "line", line)
    if failure is not None:
        _log.warning("webhook of search %s: %s", one.search_id, failure)


def signing_key(secret: str | None) -> bytes | None:
    """The key that a secret holds in base64, after ``whsec_``.

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


async def _send_all(
    engine: Engine, claimed: list[Delivery], key: bytes | None, hosts: Collection[str]
) -> None:
    # The environment may name certificates (SSL_CERT_FILE), but no proxy: hosts are listed.
    verify = httpx2.create_ssl_context(trust_env=True)
    async with httpx2.AsyncClient(trust_env=False, verify=verify, timeout=_ANSWER_S) as http:
        failures = await asyncio.gather(*(_failure(http, one, key, hosts) for one in claimed))
    for one, failure in zip(claimed, failures, strict=True):
        settle(engine, one, failure, time.time())


async def _failure(
    http: httpx2.AsyncClient, one: Delivery, key: bytes | None, hosts: Collection[str]
) -> str | None:
    """Send a message. Why the receiver did not take it, or None if it did."""
    now = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "tailorbert",
        "webhook-id": one.id,
        "webhook-timestamp": str(now),
    }
    if key is not None:
        headers["webhook-signature"] = signature(key, one.id, now, one.body)
    try:
        check_webhook(one.url, hosts)  # the operator may have removed the host since
        async with (
            asyncio.timeout(_ANSWER_S),
            http.stream("POST", one.url, content=one.body, headers=headers) as answer,
        ):
            return None if answer.is_success else f"HTTP {answer.status_code}"
    except TimeoutError:
        return f"no answer within {_ANSWER_S:g} s"
    except NasError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a receiver may answer anything
        return type(error).__name__


def _body(search: Row[Any], now: float) -> str:
    """The JSON of a message: for more, the receiver asks the service with a token of its own."""
    told = {name: getattr(search, name) for name in ("id", "name", "owner", "attempt", "error")}
    return json.dumps(
        {
            "type": f"search.{search.status}",
            "timestamp": datetime.fromtimestamp(now, UTC).isoformat(),
            "data": {**told, "status": search.status},
        }
    )
