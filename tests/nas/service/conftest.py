"""A service of a test's own: its database in a temporary folder, its app in this process."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")
pytest.importorskip("dbos", reason="needs tailorbert[service]")

import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nas.service.access.tokens import create_token
from nas.service.api.app import create_app
from nas.service.database.engine import open_database
from nas.service.database.revisions import migrate
from nas.service.running.logs import set_up_logs
from nas.service.running.server import Server
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from tests.nas.service.browsing import browser, open_page  # noqa: F401 fixtures
from tests.nas.service.databases import database_of
from tests.nas.service.scripted import Scripted, served


class Waiting:
    """A queue that nobody works at: what is enqueued waits, as with all workers away."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, int]] = []

    def enqueue(self, connection: Any, search_id: str, attempt: int, **_: Any) -> None:
        self.waiting.append((search_id, attempt))

    def cancel(self, search_id: str, attempt: int) -> None:
        self.waiting = [one for one in self.waiting if one != (search_id, attempt)]


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that is empty yet."""
    return database_of(request, tmp_path / "data")


@pytest.fixture
def make_service(tmp_path: Path, database: str) -> Iterator[Callable[..., Service]]:
    """Makes services in the test's folder that ask for no token; settings as keyword arguments."""
    engines = []

    def make(**settings: Any) -> Service:
        given = ServiceSettings.model_validate(
            {
                "data": tmp_path / "data",
                "database": database,
                "hosts": ["testserver"],
                "auth": "off",
                **settings,
            }
        )
        engine = open_database(given.database_url)
        migrate(engine)
        engines.append(engine)
        return Service(given, engine, Waiting())

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """A service that asks for tokens."""
    return make_service(auth="required")


@pytest.fixture
def mid_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still, so that no minute ends while requests are counted."""
    frozen = time.time() // 60 * 60 + 30
    monkeypatch.setattr(time, "time", lambda: frozen)


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    """A client with a token of user ada that may do anything."""
    _, token = create_token(service.engine, "ada", ["admin"])
    with TestClient(create_app(service), headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


@pytest.fixture
def listen() -> Iterator[Callable[[FastAPI, Service], tuple[str, int]]]:
    """Serves apps at free ports of this machine, each in a thread: gives host and port."""
    with ExitStack() as stack:
        yield lambda app, service: stack.enter_context(_listening(app, service))


@contextmanager
def _listening(app: FastAPI, service: Service) -> Iterator[tuple[str, int]]:
    ready = threading.Event()
    settings = service.settings.model_copy(update={"port": 0})
    server = Server(app, settings, lambda _: ready.set())
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert ready.wait(30)
        yield settings.host, int(server.url.rpartition(":")[2])
    finally:
        server.should_exit = True
        thread.join(30)


class Lines(io.StringIO):
    """A log that was written to memory."""

    def events(self) -> list[dict[str, Any]]:
        """The lines of a JSON log."""
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def log() -> Iterator[Lines]:
    """What the service logs during the test, as JSON."""
    loggers = [logging.getLogger(name) for name in (None, "dbos")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    lines = Lines()
    set_up_logs("json", lines)
    yield lines
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Scripted, str]]:
    scripted = Scripted()
    with served(scripted.app) as url:
        yield scripted, url


@pytest.fixture
def scripted(running: tuple[Scripted, str]) -> Scripted:
    """A server that answers as the test tells it to; its URL is ``running[1]``."""
    running[0].asked.clear()
    return running[0]
