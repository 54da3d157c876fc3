"""Clients that leave a stream before its end: nothing that a log must tell of."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Departures:
    """Takes what a client's leaving breaks in a response that has begun for its end.

    FastAPI closes the receiving end of an event stream before it stops those that send into it, so
    who waits to send just then fails with ``BrokenResourceError``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except* anyio.BrokenResourceError:
            if not begun:
                raise
