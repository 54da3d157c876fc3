"""A service that really listens, on a loopback port, and processes that talk to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import uvicorn

from nas.service.api.app import create_app
from nas.service.service import Service


@contextmanager
def serving(service: Service, port: int) -> Iterator[str]:
    """The service's address, at which it listens within."""
    config = uvicorn.Config(
        create_app(service), port=port, log_level="error", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def wait_for(happened: Callable[[], object], patience_s: float = 120.0) -> None:
    until = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
