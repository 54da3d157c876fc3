"""A PostgreSQL server and a Ray cluster for the tests that need real ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nas.ray_cluster import cluster  # noqa: F401 - a fixture

PASSWORD = "p@ss %{word}"
ENCODED = "p%40ss%20%25%7Bword%7D"


def server_folder() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


class PostgresServer:
    """A server of this run's own, on a socket in a temporary folder.

    Args:
        programs: where ``initdb`` and ``postgres`` are.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._user = {"user": "nobody"} if os.geteuid() == 0 else {}  # it refuses to run as root
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        (self.folder / "password").write_text(PASSWORD)
        if self._user:
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, "nobody")
        subprocess.run(
            f"{programs}/initdb -D data -U owner -A scram-sha-256 --pwfile password -N".split(),
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self._user,
        )
        self.url = f"postgresql+psycopg2://owner:{ENCODED}@/postgres?host={self.folder}"
        self.start()

    def start(self) -> None:
        """Begin, and wait until it answers."""
        log, data = self.folder / "log", self.folder / "data"
        with log.open("a") as written:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", data, "-k", self.folder, "-h", "", "-F"],
                stdout=written,
                stderr=written,
                cwd=self.folder,
                **self._user,
            )
        await_server(self._process, self.url, log)

    def stop(self) -> None:
        """End at once, and cut off whoever is connected."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=60)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server that a test may stop, if it starts it again."""
    programs = server_folder()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (initdb)")
    pytest.importorskip("psycopg2", reason="needs tailorbert[optuna]")
    server = PostgresServer(programs)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(postgres_server: PostgresServer) -> str:
    """The URL of a server."""
    return postgres_server.url


def await_server(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    import sqlalchemy

    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            engine = sqlalchemy.create_engine(url)
            engine.connect().close()
            engine.dispose()
            return
        except sqlalchemy.exc.OperationalError:
            time.sleep(0.1)
    pytest.fail(f"PostgreSQL does not answer: {log.read_text()}")


@pytest.fixture
def postgres_database(postgres: str) -> str:
    """The URL of a new database on it."""
    return new_database(postgres)


def new_database(postgres: str) -> str:
    """The URL of a new database on a server."""
    import sqlalchemy

    name = f"test{time.time_ns()}"
    engine = sqlalchemy.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return postgres.replace("/postgres?", f"/{name}?")
