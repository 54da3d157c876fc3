"""The service's database: opened, and waited for while it is away."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, Table, event
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.sql.dml import UpdateBase

from supernet.errors import NasError

T = TypeVar("T")


def open_database(url: str) -> Engine:
    """The database of a URL that :attr:`nas.service.settings.ServiceSettings.database_url` gives.

    Raises:
        NasError: it does not answer.
    """
    engine = engine_of(url)
    try:
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        engine.connect().close()
    except DBAPIError as error:
        raise NasError(f"database {shown(url)} does not answer: {_line(error)}") from error
    except OSError as error:
        raise NasError(f"database {shown(url)} cannot be made: {error.strerror}") from error
    return engine


def engine_of(url: str) -> Engine:
    """The engine of a database, which may be away just now."""
    if url.startswith("sqlite:///"):
        engine = sqlalchemy.create_engine(url, pool_size=20, max_overflow=20)
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    return sqlalchemy.create_engine(
        url,
        pool_size=10,
        max_overflow=20,
        pool_pre_ping=True,
        pool_timeout=30,
        connect_args={"connect_timeout": 10},
    )


def first_row(engine: Engine, query: Select[Any]) -> Row[Any] | None:
    """The first row of a query, read in a transaction of its own."""
    with engine.connect() as connection:
        return connection.execute(query).first()


def execute(engine: Engine, statement: UpdateBase) -> int:
    """How many rows a statement changed, in a transaction of its own."""
    with engine.begin() as connection:
        return connection.execute(statement).rowcount


def count_in_turn(
    connection: Connection, table: Table, owner: str, *where: ColumnElement[bool]
) -> int:
    """How many rows of a table an owner has; others who count them wait for this transaction's end.

    So a transaction that inserts a row and then counts sees a limit exceeded, however many do the
    same at once. On SQLite, writers wait for each other anyway.
    """
    if connection.dialect.name == "postgresql":
        statement = sqlalchemy.text("select pg_advisory_xact_lock(hashtext(:key))")
        connection.execute(statement, {"key": f"{table.name} of {owner}"})
    query = sqlalchemy.select(sqlalchemy.func.count()).select_from(table)
    return int(connection.execute(query.where(table.c.owner == owner, *where)).scalar_one())


def patiently(action: Callable[[], T]) -> T:
    """What ``action`` returns; it is tried again for as long as the database does not answer."""
    pause_s = 0.1
    while True:
        try:
            return action()
        except SQLAlchemyError as error:
            if not is_away(error):
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 5.0)


def is_away(error: SQLAlchemyError) -> bool:
    """Whether an error says that the database does not answer now, but may answer soon."""
    if isinstance(error, OperationalError | PoolTimeoutError):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def shown(url: str) -> str:
    """A database's URL without its password."""
    return re.sub(r"//([^/:@]*):[^/]*@", r"//\1@", url)


def _prepare_sqlite(connection: Any, _: object) -> None:
    """Have writers take turns from their first statement on, and readers wait for no writer."""
    connection.isolation_level = "IMMEDIATE"
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # what was answered survives a power cut


def _line(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())[:200]
