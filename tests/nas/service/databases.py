"""Both databases that a service may have, for tests that are to pass with either."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nas.conftest import new_database

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]

on_both = pytest.mark.parametrize("database", KINDS, indirect=True)
"""Marks a test of a service, or of a ``database``."""


def database_of(request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of a new database, of the kind that the request of a fixture is parametrized by."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{folder / 'service.db'}"
    url = new_database(request.getfixturevalue("postgres"))
    return url.replace("postgresql+psycopg2://", "postgresql+psycopg://")
