"""The service's tables: brought up to date from any state, by whoever starts, on both databases."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from nas.service.access.tokens import create_token, find_caller, revoke_token
from nas.service.database.engine import open_database
from nas.service.database.revisions import VERSION_TABLE, is_current, migrate
from nas.service.database.tables import metadata, searches
from supernet.errors import NasError
from tests.nas.service.databases import on_both

STARTS = """
import sys
from dbos import DBOS
from nas.service.database.engine import open_database
from nas.service.database.revisions import migrate
sys.stdin.read()
migrate(open_database(sys.argv[1]))
DBOS.migrate(sys.argv[1])
"""


def is_own(name: str | None, kind: str, *_: object) -> bool:
    """Leaves out DBOS's tables, and the one that keeps the revision."""
    return kind != "table" or name in metadata.tables


@on_both
def test_migrations_make_the_tables_as_they_are_defined(database):
    engine = open_database(database)
    assert not is_current(engine)
    for _ in range(2):  # the second time there is nothing to do
        migrate(engine)
        assert is_current(engine)
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "include_name": is_own, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


@pytest.mark.slow
@on_both
def test_processes_that_start_at_once_migrate_once(database):
    open_database(database).dispose()
    starts = [
        subprocess.Popen([sys.executable, "-c", STARTS, database], stdin=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in starts:
        process.stdin.close()  # all have loaded, or are about to
    assert [process.wait(120) for process in starts] == [0, 0, 0]
    engine = open_database(database)
    assert is_current(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.select(searches)).all() == []
    engine.dispose()


@on_both
def test_tokens_are_found_until_they_are_revoked(service):
    token_id, token = create_token(service.engine, "ada", ["read"])
    assert find_caller(service.engine, token).token_id == token_id
    assert revoke_token(service.engine, token_id)
    assert not revoke_token(service.engine, token_id)
    assert find_caller(service.engine, token) is None


def test_a_password_is_not_shown(tmp_path):
    with pytest.raises(NasError, match="does not answer") as told:
        open_database(f"postgresql+psycopg://ada:s3cret@/nas?host={tmp_path}")
    assert "s3cret" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_a_wrong_password_is_an_error_of_one_line(postgres):
    url = postgres.replace("psycopg2", "psycopg").partition("@")[2]
    with pytest.raises(NasError, match="password authentication failed") as told:
        open_database(f"postgresql+psycopg://owner:wr0ng@{url}")
    assert "wr0ng" not in str(told.value)
    assert "\n" not in str(told.value)
