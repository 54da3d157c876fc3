"""A database copied to one file and back: SQLite by its backup interface, PostgreSQL by pg_dump."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from latency.atomic import sync
from nas.service.database.engine import open_database, shown
from nas.service.settings import ServiceSettings
from supernet.errors import NasError


class DatabaseCopy:
    """Copies the database of a service's settings.

    Args:
        settings: of the service.
    """

    NAMES = ("database.sqlite", "database.dump")

    def __init__(self, settings: ServiceSettings) -> None:
        self._url = settings.database_url
        self._is_sqlite = self._url.startswith("sqlite:///")
        self._file = Path(self._url.removeprefix("sqlite:///"))
        self.name = self.NAMES[0 if self._is_sqlite else 1]

    def write(self, copy: Path) -> None:
        """Write the database of one moment to a file, without making writers wait.

        Raises:
            NasError: there is no database, it does not answer, or pg_dump is missing or too old.
        """
        if not self._is_sqlite:
            with self._server() as server:
                _run("pg_dump", "--format=custom", f"--file={copy}", *_AS_WHO_RESTORES, server)
            return
        if not self._file.is_file():
            raise NasError(f"database {self._file} does not exist: there is nothing to back up")
        with (
            closing(sqlite3.connect(f"{self._file.as_uri()}?mode=rw", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it

    def check_empty(self) -> None:
        """Refuse to restore over a database that is in use.

        Raises:
            NasError: it has tables, or does not answer.
        """
        if self._is_sqlite and not self._file.exists():
            return
        engine = open_database(self._url)
        try:
            inspector = sa.inspect(engine)
            own = ("information_schema",)
            schemas = [name for name in inspector.get_schema_names() if name not in own]
            tables = [table for name in schemas for table in inspector.get_table_names(name)]
        finally:
            engine.dispose()
        if tables:
            raise NasError(
                f"database {shown(self._url)} is not empty: a backup is restored into a new one"
            )

    def read(self, copy: Path) -> None:
        """Fill the database from a copy, with all of it or with nothing.

        Raises:
            NasError: the copy is damaged, or pg_restore is missing or too old.
        """
        if not self._is_sqlite:
            with self._server() as server:
                once = ("--single-transaction", "--exit-on-error")
                _run("pg_restore", *once, *_AS_WHO_RESTORES, f"--dbname={server}", str(copy))
            return
        try:
            with closing(sqlite3.connect(copy)) as connection:
                (found,) = connection.execute("PRAGMA integrity_check").fetchone()
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found != "ok":
            raise NasError(f"the backup's database is damaged: {found}")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        sync(copy)
        for left in ("-wal", "-shm"):
            Path(f"{self._file}{left}").unlink(missing_ok=True)
        shutil.move(copy, self._file)
        sync(self._file.parent)

    @contextmanager
    def _server(self) -> Iterator[str]:
        """How PostgreSQL's programs reach the server; a file of this user holds the password."""
        url = self._url.replace("postgresql+psycopg://", "postgresql://", 1)
        given: dict[str, Any] = conninfo_to_dict(url)
        password = given.pop("password", None)
        with TemporaryDirectory() as folder:
            if password is not None:
                escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
                file = Path(folder) / "password"
                file.touch(mode=0o600)
                file.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
                given["passfile"] = str(file)
            yield make_conninfo(**given)


_AS_WHO_RESTORES = ("--no-owner", "--no-privileges")


def _run(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs.

    Raises:
        NasError: it is missing, or fails.
    """
    found = shutil.which(program)
    if found is None:
        raise NasError(f"{program} is not on the PATH: install PostgreSQL's client programs")
    # A program of the operator's PATH, no shell, and arguments of ours.
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        told = " ".join(done.stderr.split())[:300]
        raise NasError(f"{program} failed: {told}")
