"""The application at a socket: it starts, and stops without cutting off requests."""

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

from nas.service.running.connections import Connection
from nas.service.running.listening import listening
from nas.service.settings import ServiceSettings

_log = structlog.stdlib.get_logger(__name__)

_FAREWELL_S = 10
"""How long requests may go on once the service is told to stop."""


class Server(uvicorn.Server):
    """A server of an application of :func:`nas.service.api.app.create_app`.

    Args:
        ready: called with the service's URL once it answers. If ``settings.port`` is 0, the system
            has chosen the port.
        at: the socket to listen at; None for a new one at the settings' host and port.

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
    """Serve until SIGTERM or Ctrl-C; running requests are answered first."""
    if threading.current_thread() is threading.main_thread():
        # uvicorn stops at the signal, and then raises it again for the handler before its own.
        # Without one, the process would end at once and not clean up.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    gc.collect()
    gc.freeze()  # spares the collector what stays anyway: queries' p99 is half as long
    with suppress(KeyboardInterrupt):
        server.run()
