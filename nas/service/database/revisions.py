"""The revision of the database's tables: bring it up to date, and check it."""

from __future__ import annotations

from functools import cache

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

VERSION_TABLE = "tailorbert_version"
"""The table in which the database keeps its revision."""


def migrate(engine: Engine) -> None:
    """Bring the tables up to date; processes that do so at the same time take turns."""
    config = _alembic()
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # statements of DDL begin none
        else:
            connection.execute(sqlalchemy.text("select pg_advisory_xact_lock(84711)"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_current(engine: Engine) -> bool:
    """Whether the tables have this version's revision."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return context.get_current_revision() == _newest_revision()


@cache
def _newest_revision() -> str | None:
    return ScriptDirectory.from_config(_alembic()).get_current_head()


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", "nas.service.database:migrations")
    return config
