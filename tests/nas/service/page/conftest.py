"""A service with finished searches, and servers of it that ask for tokens or do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nas.service.access.tokens import create_token
from nas.service.database.engine import open_database
from nas.service.database.revisions import migrate
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from tests.nas.service.conftest import Waiting
from tests.nas.service.page.servers import Served, serve
from tests.nas.service.seeded import finished_search


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Iterator[tuple[Service, str, dict[str, Any]]]:
    settings = ServiceSettings(data=tmp_path_factory.mktemp("page"), auth="off")
    engine = open_database(settings.database_url)
    migrate(engine)
    service = Service(settings, engine, Waiting())
    _, token = create_token(engine, "ada", ["read", "submit"])
    yield service, token, finished_search(service, ("4x", "2x"))
    engine.dispose()


@pytest.fixture(scope="module")
def served(base) -> Iterator[Served]:
    """A server that asks for no token."""
    yield from serve(*base)


@pytest.fixture(scope="module")
def guarded(base) -> Iterator[Served]:
    """The same with tokens."""
    service, *rest = base
    asking = service.settings.model_copy(update={"auth": "required"})
    yield from serve(replace(service, settings=asking), *rest)


@pytest.fixture(scope="module")
def private(base) -> Iterator[Served]:
    """The same with tokens, where everybody sees what is theirs alone."""
    service, *rest = base
    asking = service.settings.model_copy(update={"auth": "required", "private": True})
    yield from serve(replace(service, settings=asking), *rest)
