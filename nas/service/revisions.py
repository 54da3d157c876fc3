"""The revision of the database's tables: brought up to date, and looked at."""

from __future__ import annotations

from functools import cache

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

VERSION_TABLE = "tailorbert_version"
"""Where the database keeps the revision of its tables."""


def migrate(engine: Engine) -> None:
    """Bring the tables up to date, or leave them as they are; who does so at once takes turns."""
    config = _alembic()
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # which no statement of DDL does
        else:
            connection.execute(sqlalchemy.text("select pg_advisory_xact_lock(84711)"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_current(engine: Engine) -> bool:
    """Whether the tables are those of this version of the service."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return context.get_current_revision() == _newest_revision()


@cache
def _newest_revision() -> str | None:
    return ScriptDirectory.from_config(_alembic()).get_current_head()


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", "nas.service:migrations")
    return config
