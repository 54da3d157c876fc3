"""The application at a socket: started, and stopped so that nobody is cut off."""

from __future__ import annotations

import gc
import math
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.config import HTTPProtocolType

from nas.service.connections import Connection
from nas.service.listening import listening
from nas.service.settings import ServiceSettings

_log = structlog.stdlib.get_logger(__name__)

_FAREWELL_S = 10
"""For so long requests under way may go on once the service is told to stop."""


class Server(uvicorn.Server):
    """A server of an application of :func:`nas.service.api.app.create_app`; it has its port.

    Args:
        ready: called with the service's URL once it answers; its port is the system's choice
            where ``settings.port`` is 0.
        at: the socket to listen at; None for one of the settings' host and port.

    Raises:
        NasError: the address cannot be listened at.
    """

    def __init__(
        self,
        app: FastAPI,
        settings: ServiceSettings,
        ready: Callable[[str], None] | None = None,
        at: socket.socket | None = None,
    ) -> None:
        limits = settings.limits
        protocol = type("LimitedConnection", (Connection,), {"limits": limits})
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(HTTPProtocolType, protocol),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(settings.proxies),
                forwarded_allow_ips=list(settings.proxies),
                limit_concurrency=limits.connections,
                timeout_keep_alive=math.ceil(limits.header_seconds),
                timeout_graceful_shutdown=_FAREWELL_S,
            )
        )
        self._settings, self._stopping, self._ready = settings, app.state.stopping, ready
        self._socket = at or listening(settings.host, settings.port)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        super().run(sockets=[self._socket])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asks = "asked for" if self._settings.needs_token else "not asked for on this machine"
        _log.info("listening", url=self.url, data=str(self._settings.data), tokens=asks)
        if self._ready is not None:
            self._ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)


def run_server(server: Server) -> None:
    """Serve until SIGTERM or Ctrl-C; requests under way are answered first."""
    if threading.current_thread() is threading.main_thread():
        # uvicorn stops at the signal, and then sends it once more to whoever handled it before:
        # without a handler the process would end on the spot, its clean-up undone.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    gc.collect()
    gc.freeze()  # what was loaded stays: with it to look through, queries' p99 is twice as long
    with suppress(KeyboardInterrupt):
        server.run()
