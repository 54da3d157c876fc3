"""``nas admin``, as an operator types it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from nas.commands.admin import app
from nas.service.access.tokens import find_caller
from nas.service.database.engine import open_database
from nas.service.database.tables import audit, searches
from nas.service.service import Service
from supernet.errors import NasError

Admin = Callable[..., Result]


@pytest.fixture
def admin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Admin]:
    """Runs a command on a service in the test's folder."""
    before = os.umask(0o022)
    monkeypatch.setattr("nas.commands.options.out._width", 150)  # what it was at its import counts
    monkeypatch.setenv("TERM", "dumb")
    where = ("--data", tmp_path / "data")
    yield lambda *words: CliRunner().invoke(app, [str(word) for word in (*words, *where)])
    os.umask(before)


def test_a_token_is_made_listed_and_revoked(admin, tmp_path):
    made = admin("token", "create", "--owner", "ada", "--scope", "read", "--scope", "submit")
    token = made.stdout.strip()
    engine = open_database(f"sqlite:///{tmp_path}/data/service.db")
    caller = find_caller(engine, token)
    assert (caller.owner, caller.scopes) == ("ada", {"read", "submit"})

    admin("token", "create", "--owner", "eve", "--scope", "admin", "--days", 0)
    listed = admin("token", "list").stdout
    assert token not in listed
    assert re.search(r"eve +│ admin +│ .* │ never expires", listed)
    assert re.search(r"ada +│ read submit +│ .* │ expires 2", listed)

    assert admin("token", "revoke", caller.token_id).exit_code == 0
    assert find_caller(engine, token) is None
    engine.dispose()
    assert re.search(r"ada +│ read submit +│ .* │ revoked 2", admin("token", "list").stdout)
    assert "is in force" in str(admin("token", "revoke", caller.token_id).exception)


def test_a_token_is_written_for_its_owner_alone(admin, tmp_path):
    file = tmp_path / "ada.token"
    wanted = ("token", "create", "--owner", "ada", "--scope", "read", "--output")
    made = admin(*wanted, file)
    assert (made.exit_code, made.stdout) == (0, "")
    assert file.stat().st_mode & 0o777 == 0o600
    engine = open_database(f"sqlite:///{tmp_path}/data/service.db")
    assert find_caller(engine, file.read_text().strip()).owner == "ada"
    engine.dispose()
    assert "cannot be written" in str(admin(*wanted, file / "x").exception)
    kept = file.read_text()
    assert "exists: choose another name" in str(admin(*wanted, file).exception)
    assert file.read_text() == kept


def test_a_token_that_is_sent_to_a_file_is_its_owners_alone(tmp_path):
    """The shell made the file, by its own habits."""
    file = tmp_path / "ada.token"
    file.touch(0o644)
    words = ["token", "create", "--owner", "ada", "--scope", "read", "--data", str(tmp_path / "d")]
    code = f"from nas.commands.admin import app; app({words!r})"
    with file.open("w") as sink:
        subprocess.run([sys.executable, "-c", code], stdout=sink, check=True)
    assert file.read_text().startswith("tb_")
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_the_operator_does_to_tokens_is_in_the_audit_log(admin, tmp_path):
    token = admin("token", "create", "--owner", "ada", "--scope", "read").stdout.strip()
    engine = open_database(f"sqlite:///{tmp_path}/data/service.db")
    token_id = find_caller(engine, token).token_id
    admin("token", "revoke", token_id)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(audit).order_by(audit.c.created)).all()
    engine.dispose()
    assert [(row.actor, row.action, row.subject) for row in rows] == [
        ("(operator)", "nas admin token create", f"{token_id} of ada"),
        ("(operator)", "nas admin token revoke", token_id),
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["token", "create", "--owner", "Ada B", "--scope", "read"], "owner 'Ada B' must be"),
        (["token", "create", "--owner", "ada", "--scope", "all"], "scopes must be some of"),
        (["token", "create", "--owner", "ada", "--scope", "read", "--days", "-1"], "days must be"),
        (["migrate", "--database", "mysql://x/y"], "database must be postgresql://"),
        (["migrate", "--config", "absent"], "absent"),
        (["backup", __file__], "exists: choose another name"),
        (["restore", "absent.tar.gz"], "no such file"),
    ],
)
def test_what_cannot_be_is_one_line(admin, words, line):
    error = admin(*words).exception
    assert isinstance(error, NasError)
    assert line in str(error)
    assert "\n" not in str(error)


def test_a_service_is_backed_up_and_restored(admin, tmp_path):
    token = admin("token", "create", "--owner", "ada", "--scope", "read").stdout.strip()
    profile = tmp_path / "data" / "profiles" / "phone.json"
    profile.parent.mkdir()
    profile.write_text("{}")
    archive = tmp_path / "backup.tar.gz"
    assert "backup.tar.gz: 2 files" in admin("backup", archive).stdout
    restored = CliRunner().invoke(app, ["restore", str(archive), "--data", str(tmp_path / "there")])
    assert "2 files of 2" in restored.stdout
    assert (tmp_path / "there" / "profiles" / "phone.json").read_text() == "{}"
    for path in (tmp_path / "there").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    engine = open_database(f"sqlite:///{tmp_path}/there/service.db")
    assert find_caller(engine, token) is not None
    engine.dispose()
    assert "is not empty" in str(admin("restore", archive).exception)


def test_collecting_says_what_goes(admin, service: Service):
    with service.engine.begin() as connection:
        connection.execute(
            searches.insert().values(
                id="s1", owner="ada", created=1.0, updated=1.0, status="done", attempt=1,
                priority=100, request={}, expired=False,
            )
        )  # fmt: skip
    archive = service.settings.data / "results" / "s1" / "0" / "archive.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"x" * 2_000_000)
    import os

    os.utime(archive, (1, 1))
    told = admin("collect", "--dry-run").stdout.splitlines()
    assert told == ["models of search s1", "2.0 MB would be free again"]
    assert archive.exists()
    assert admin("collect").stdout.splitlines() == ["models of search s1", "2.0 MB are free again"]
    assert not archive.exists()
