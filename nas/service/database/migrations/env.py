"""Runs the migrations on the connection that :mod:`nas.service.database.revisions` gives."""

from __future__ import annotations

from alembic import context

from nas.service.database.revisions import VERSION_TABLE
from nas.service.database.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
