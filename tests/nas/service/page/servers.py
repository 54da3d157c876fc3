"""Servers of the page over one service with finished searches, and who looks at it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from nas.service.access.tokens import Scope, create_token
from nas.service.api.app import create_app
from nas.service.database.tables import searches
from nas.service.searches import events
from nas.service.searches.lifecycle import create
from nas.service.searches.requests import NewSearch
from nas.service.service import Service
from tests.nas.service.live import wait_for


@dataclass
class Served:
    """A server with finished searches, and what it stands on."""

    url: str
    service: Service
    token: str
    done: dict[str, Any]
    server: uvicorn.Server

    def drop_connections(self) -> None:
        """As a network that breaks off."""
        for connection in list(self.server.server_state.connections):
            transport = connection.transport
            self.server.servers[0].get_loop().call_soon_threadsafe(transport.abort)


def serve(service: Service, token: str, done: dict[str, Any]) -> Iterator[Served]:
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", service, token, done, server)
    finally:
        server.should_exit = True
        thread.join()


def running_search(service: Service) -> str:
    """A search that a worker has begun."""
    row, _ = create(service, "ada", NewSearch(budgets=("4x",), space="tiny"), None)
    with service.engine.begin() as connection:
        connection.execute(
            searches.update().where(searches.c.id == row.id).values(status="running")
        )
        events.append(connection, row.id, "status", {"status": "running", "attempt": 1})
    return row.id


def signed_in(open_page: Any, served: Served, owner: str, scopes: list[Scope], view: str) -> Any:
    """The page as a user sees it."""
    page = open_page(f"{served.url}/#/{view}")
    page.get_by_label("Token").fill(create_token(served.service.engine, owner, scopes)[1])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text(f"Signed in as {owner}").wait_for()
    return page
