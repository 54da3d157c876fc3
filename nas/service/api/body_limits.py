"""Request bodies: how large they may be, how slow, and of what type."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.service.api.problems import problem_response
from nas.service.settings import Limits

_SLOWEST = 16 * 1024
"""Bytes a second, below which a client is too slow."""
LARGE_AT_ONCE = 4
"""Uploads and profiles of one user that are on their way in, or being checked."""
_JSON = re.compile(r"application/([\w.+-]+\+)?json\s*(;|$)", re.IGNORECASE)


@dataclass(frozen=True)
class BodyRule:
    """What the bodies of some routes may be.

    Args:
        paths: of the routes, whole.
        most_bytes: of a body.
        json: whether it must say that it is JSON.
        large: whether a user has only so many of them under way.
        method: of the requests; None is any.
    """

    paths: re.Pattern[str]
    most_bytes: int
    json: bool
    large: bool = True
    method: str | None = None

    def covers(self, method: str, path: str) -> bool:
        """Whether it is the rule of a request."""
        return self.method in (None, method) and self.paths.fullmatch(path) is not None


def body_rules(limits: Limits) -> tuple[BodyRule, ...]:
    """The rules of all routes: the first that fits counts."""
    anything = re.compile(r".*", re.DOTALL)
    return (
        BodyRule(anything, limits.body_bytes, json=True, large=False, method="PATCH"),
        BodyRule(re.compile(r"/v1/teachers/[^/]+:try"), limits.body_bytes, json=True),
        BodyRule(
            re.compile(r"/v1/(datasets|teachers|supernets)/[^/]+"), limits.upload_bytes, json=False
        ),
        BodyRule(re.compile(r"/v1/targets/[^/]+/profile"), limits.profile_bytes, json=True),
        BodyRule(re.compile(r"/v1/tasks/[^/]+:complete"), limits.profile_bytes, json=True),
        BodyRule(anything, limits.body_bytes, json=True, large=False),
    )


class BodyLimits:
    """Holds requests to the rules: 413, 415, 429, and 408 for a body that comes too slowly."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._rules = body_rules(limits)
        self._seconds = limits.body_seconds
        self._large: Counter[str] = Counter()  # under way, by user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        length = int(headers.get("content-length", "0"))
        if not length and "transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        rule = next(one for one in self._rules if one.covers(scope["method"], scope["path"]))
        content_type = headers.get("content-type", "")
        if length > rule.most_bytes:
            await problem_response(413, _too_large(rule))(scope, receive, send)
        elif rule.json and not _JSON.match(content_type):
            detail = f"Content-Type must be application/json, not {content_type[:100]!r}"
            await problem_response(415, detail)(scope, receive, send)
        elif rule.large:
            await self._one_of_few(scope, _held_to(rule, self._seconds, receive), send)
        else:
            await self._app(scope, _held_to(rule, self._seconds, receive), send)

    async def _one_of_few(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Each takes memory or disk before anything is known of it."""
        owner = scope["state"]["caller"].owner
        if self._large[owner] >= LARGE_AT_ONCE:
            detail = f"{LARGE_AT_ONCE} uploads of yours are under way: wait for one to end"
            await problem_response(429, detail, {"Retry-After": "5"})(scope, receive, send)
            return
        self._large[owner] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._large[owner] -= 1
            self._large += Counter()  # forgets who has none


def _held_to(rule: BodyRule, seconds: float, receive: Receive) -> Receive:
    """Receives a body, while it is neither too large nor too slow.

    Only the time in which the service waits for the client counts.
    """
    received, patience, complete = 0, seconds, False

    async def receive_within() -> Message:
        nonlocal received, patience, complete
        if complete:
            return await receive()  # which waits for the client to leave, for as long as it stays
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(0.0, patience)):
                message = await receive()
        except TimeoutError:
            detail = f"the body must arrive within {seconds:g} s and a second for each 16 KiB"
            raise HTTPException(408, detail, {"Connection": "close"}) from None
        size = len(message.get("body", b""))
        received += size
        patience += size / _SLOWEST - (asyncio.get_running_loop().time() - began)
        complete = not message.get("more_body", False)
        if received > rule.most_bytes:
            raise HTTPException(413, _too_large(rule))
        return message

    return receive_within


def _too_large(rule: BodyRule) -> str:
    return f"the body must be at most {rule.most_bytes} bytes"
