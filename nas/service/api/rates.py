"""How often a client may ask: so many requests a minute of a token, or of an address."""

from __future__ import annotations

import ipaddress
import math
import time

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.service.api.auth import KnownTokens, bearer_token
from nas.service.api.problems import problem_response
from nas.service.running.metrics import Metrics

_FREE = "/healthz"


class Rates:
    """Refuses clients that ask too often, each process by itself.

    A token has an allowance of its own for ten minutes after it was good, so that a flood from its
    address does not shut it out; who tries out tokens spends that of the address.
    """

    def __init__(self, app: ASGIApp, per_minute: int, known: KnownTokens, metrics: Metrics) -> None:
        self._app, self._known, self._metrics = app, known, metrics
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._policy = (b"ratelimit-policy", f'"requests";q={per_minute};w=60'.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == _FREE:
            await self._app(scope, receive, send)
            return
        client = self._client(scope)
        allowed = await self._limiter.hit(self._limit, client)
        reset, remaining = await self._limiter.get_window_stats(self._limit, client)
        seconds = max(1, math.ceil(reset - time.time()))
        state = (b"ratelimit", f'"requests";r={remaining};t={seconds}'.encode())

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._policy, state]
            await send(message)

        if allowed:
            await self._app(scope, receive, told)
        else:
            self._metrics.rate_limited.inc()
            detail = f"more than {self._limit.amount} requests in a minute; wait {seconds} s"
            response = problem_response(429, detail, {"Retry-After": str(seconds)})
            await response(scope, receive, told)

    def _client(self, scope: Scope) -> str:
        token = bearer_token(scope)
        caller = None if token is None else self._known.recall(token)
        if caller is not None and caller.token_id is not None:
            return caller.token_id
        return _network(scope["client"][0]) if scope.get("client") else "local"


def _network(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one: a household's, which it may number at will."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
