"""A service is copied while it is written to, and comes back elsewhere as it was."""

from __future__ import annotations

import io
import json
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas.service.access.tokens import create_token, find_caller
from nas.service.database.engine import open_database
from nas.service.database.revisions import migrate
from nas.service.database.tables import events, searches
from nas.service.jobs.worker import migrate_all
from nas.service.service import NobodysQueue, Service
from nas.service.settings import ServiceSettings
from nas.service.upkeep import backup
from nas.service.upkeep.backup import back_up, restore
from nas.service.upkeep.retention import alone
from supernet.errors import NasError

FILES = {
    "results/s1/0/archive.zip": b"zip" * 100_000,
    "results/s1/0/report.json": b"{}",
    "datasets/reviews/train.parquet": b"PAR1",
    "profiles/phone.json": b"{}",
}


def fill(service: Service) -> str:
    """Files, a search and a token, which is returned."""
    for name, content in FILES.items():
        path = service.settings.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with service.engine.begin() as connection:
        connection.execute(
            searches.insert().values(
                id="s1", owner="ada", created=1.0, updated=2.5, status="done", attempt=1,
                priority=100, request={"budgets": ["4x"]}, models=[{"number": 0}], expired=False,
            )
        )  # fmt: skip
    return create_token(service.engine, "ada", ["read"])[1]


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, DBOS's too."""
    engine = open_database(url)
    own = ("information_schema", "pg_catalog", "pg_toast")
    inspector = sa.inspect(engine)
    found = {}
    with engine.connect() as connection:
        for schema in inspector.get_schema_names():
            for name in () if schema in own else inspector.get_table_names(schema):
                table = sa.Table(name, sa.MetaData(), schema=schema, autoload_with=engine)
                found[f"{schema}.{name}"] = sorted(
                    map(tuple, connection.execute(table.select())), key=repr
                )
    engine.dispose()
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith((".", "service.db"))
    }


def elsewhere(tmp_path: Path, **settings: object) -> ServiceSettings:
    return ServiceSettings.model_validate({"data": tmp_path / "elsewhere", **settings})


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a small service."""
    folder = tmp_path_factory.mktemp("service")
    settings = ServiceSettings.model_validate({"data": folder / "data"})
    engine = open_database(settings.database_url)
    migrate(engine)
    fill(Service(settings, engine, NobodysQueue()))
    engine.dispose()
    back_up(settings, folder / "backup.tar.gz")
    return folder / "backup.tar.gz"


@pytest.fixture
def saved(original: Path, tmp_path: Path) -> Path:
    """A copy of it for the test."""
    return Path(shutil.copy(original, tmp_path))


def test_a_service_on_sqlite_comes_back_as_it_was(service, tmp_path):
    migrate_all(service.settings, service.engine)
    token = fill(service)
    back_up(service.settings, tmp_path / "backup.tar.gz")
    there = elsewhere(tmp_path)
    restore(there, tmp_path / "backup.tar.gz")
    assert files(there.data) == FILES
    assert rows(there.database_url) == rows(service.settings.database_url)
    engine = open_database(there.database_url)
    assert find_caller(engine, token).owner == "ada"
    engine.dispose()
    assert not [path for path in there.data.iterdir() if path.name.startswith(".restore")]


def test_a_service_on_postgresql_comes_back_as_it_was(
    make_service: Callable[..., Service], tmp_path, postgres_database, request
):
    url = postgres_database.replace("+psycopg2", "")
    service = make_service(database=url)
    migrate_all(service.settings, service.engine)
    fill(service)
    manifest = back_up(service.settings, tmp_path / "backup.tar.gz")
    assert set(manifest["files"]) == {"database.dump", *FILES}
    with pytest.raises(NasError, match="is not empty") as raised:
        restore(elsewhere(tmp_path, database=url), tmp_path / "backup.tar.gz")
    assert "word" not in str(raised.value)

    name = f"copy{id(manifest)}"
    engine = sa.create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    there = elsewhere(tmp_path, database=url.replace(url.split("/")[3].split("?")[0], name))
    restore(there, tmp_path / "backup.tar.gz")
    assert files(there.data) == FILES
    before = rows(service.settings.database_url)
    assert rows(there.database_url) == before
    assert any(table.startswith("dbos.") for table in before)


def test_a_copy_made_while_it_is_written_to_is_of_one_moment(service, tmp_path):
    fill(service)
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            with service.engine.begin() as connection:  # both or neither
                for search in ("a", "b"):
                    connection.execute(
                        events.insert().values(
                            search_id=search, number=number, created=1.0, kind="line", data={}
                        )
                    )
                connection.execute(searches.update().values(attempt=number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = set()
        for number in range(5):
            back_up(service.settings, tmp_path / f"{number}.tar.gz")
            there = elsewhere(tmp_path, data=tmp_path / f"there{number}")
            restore(there, tmp_path / f"{number}.tar.gz")
            engine = open_database(there.database_url)
            with engine.connect() as connection:
                count = sa.select(events.c.search_id, sa.func.count()).group_by(events.c.search_id)
                found = dict(connection.execute(count).all())
                attempt = connection.execute(sa.select(searches.c.attempt)).scalar_one()
            engine.dispose()
            assert set(found.values()) in ({attempt}, set())
            counts.add(attempt)
    finally:
        ended.set()
        writer.join()
    assert len(counts) > 1


def test_the_workspace_goes_along_only_if_asked_for(service, tmp_path):
    fill(service)
    workspace = Path(service.settings.workspace_place)
    for name in ("supernet/1/weights", "supernet/2.partial/weights", ".lock"):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text("w")
    without = back_up(service.settings, tmp_path / "a.tar.gz")
    withal = back_up(service.settings, tmp_path / "b.tar.gz", workspace=True)
    assert set(withal["files"]) - set(without["files"]) == {"workspace/supernet/1/weights"}
    there = elsewhere(tmp_path, workspace=str(tmp_path / "w"))
    restore(there, tmp_path / "b.tar.gz")
    assert (tmp_path / "w" / "supernet" / "1" / "weights").read_text() == "w"
    shared = service.settings.model_copy(update={"workspace": "s3://bucket/team"})
    with pytest.raises(NasError, match="is no folder here"):
        back_up(shared, tmp_path / "c.tar.gz", workspace=True)


def test_a_backup_is_for_its_owners_eyes(saved):
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["results/x/archive.zip", "service.db"])
def test_nothing_is_restored_over_a_service(saved, tmp_path, name):
    there = elsewhere(tmp_path)
    (there.data / name).parent.mkdir(parents=True)
    if name == "service.db":
        engine = open_database(there.database_url)
        with engine.begin() as connection:
            connection.execute(sa.text("create table mine (x int)"))
        engine.dispose()
    else:
        (there.data / name).write_text("mine")
    before = files(there.data)
    with pytest.raises(NasError, match="is not empty"):
        restore(there, saved)
    assert files(there.data) == before


def repacked(saved: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The same archive with other contents."""
    with tarfile.open(saved) as archive:
        content = {entry.name: archive.extractfile(entry).read() for entry in archive}
    change(content)
    other = saved.with_name("other.tar.gz")
    with tarfile.open(other, "w:gz") as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return other


def set_format(content: dict[str, bytes]) -> None:
    content["manifest.json"] = json.dumps(
        json.loads(content["manifest.json"]) | {"format": 9}
    ).encode()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c.update({"results/s1/0/report.json": b"[]"}), "report.json is not as its"),
        (lambda c: c.update({"results/s1/0/more": b""}), "more is not as its manifest says"),
        (lambda c: c.pop("profiles/phone.json"), "phone.json is not as its manifest says"),
        (lambda c: c.pop("manifest.json"), "is not complete"),
        (set_format, "of another version"),
        (lambda c: c.update({"../evil": b""}), "'../evil', which is no part"),
        (lambda c: c.update({"results/../../evil": b""}), "which is no part"),
        (lambda c: c.update({"/results/evil": b""}), "which is no part"),
        (lambda c: c.update({"service.db": b""}), "which is no part"),
    ],
)
def test_a_backup_that_was_changed_is_not_restored(saved, tmp_path, change, line):
    there = elsewhere(tmp_path)
    with pytest.raises(NasError, match=line) as raised:
        restore(there, repacked(saved, change))
    assert "\n" not in str(raised.value)
    assert files(there.data) == {}
    assert not (tmp_path / "evil").exists()


def test_a_backup_that_was_cut_off_is_not_restored(saved, tmp_path):
    for length in (0, 100, saved.stat().st_size // 2, 3 * saved.stat().st_size // 4):
        cut = tmp_path / "cut.tar.gz"
        cut.write_bytes(saved.read_bytes()[:length])
        with pytest.raises(NasError, match=r"is damaged or none|is not complete"):
            restore(elsewhere(tmp_path), cut)
    with pytest.raises(NasError, match="no such file"):
        restore(elsewhere(tmp_path), tmp_path / "absent")
    assert files(tmp_path / "elsewhere") == {}


def test_links_are_not_restored(saved, tmp_path):
    other = tmp_path / "other.tar.gz"
    with tarfile.open(other, "w:gz") as archive:
        entry = tarfile.TarInfo("results/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(NasError, match="'results/link', which is no plain file"):
        restore(elsewhere(tmp_path), other)


def test_a_restore_that_fails_late_leaves_nothing(saved, tmp_path):
    def spoil(content: dict[str, bytes]) -> None:
        import hashlib

        content["database.sqlite"] = b"no database" * 1000
        manifest = json.loads(content["manifest.json"])
        manifest["files"]["database.sqlite"] = {
            "bytes": len(content["database.sqlite"]),
            "sha256": hashlib.sha256(content["database.sqlite"]).hexdigest(),
        }
        content["manifest.json"] = json.dumps(manifest).encode()

    there = elsewhere(tmp_path)
    with pytest.raises(NasError, match="the backup's database is damaged"):
        restore(there, repacked(saved, spoil))
    assert files(there.data) == {}
    restore(there, saved)
    assert files(there.data) == FILES


def test_a_backup_of_the_other_kind_of_database_is_refused(saved, tmp_path, postgres_database):
    there = elsewhere(tmp_path, database=postgres_database.replace("+psycopg2", ""))
    with pytest.raises(NasError, match=r"holds no database\.dump"):
        restore(there, saved)


def test_what_cannot_be_backed_up_leaves_no_archive(tmp_path, service):
    nothing = elsewhere(tmp_path)
    nothing.data.mkdir()
    with pytest.raises(NasError, match="there is nothing to back up"):
        back_up(nothing, tmp_path / "a.tar.gz")
    with alone(service.settings), pytest.raises(NasError, match="being backed up or cleared"):
        back_up(service.settings, tmp_path / "a.tar.gz")
    assert not list(tmp_path.glob("*.tar.gz"))


def test_missing_programs_and_a_wrong_password_are_one_line(
    tmp_path, postgres_database, monkeypatch
):
    url = postgres_database.replace("+psycopg2", "")
    wrong = elsewhere(tmp_path, database=url.replace("owner:", "owner:tops3cret"))
    wrong.data.mkdir()
    with pytest.raises(NasError, match=r"pg_dump failed: .*authentication failed") as raised:
        back_up(wrong, tmp_path / "a.tar.gz")
    assert "tops3cret" not in str(raised.value)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NasError, match="pg_dump is not on the PATH"):
        back_up(wrong, tmp_path / "a.tar.gz")


def test_the_folders_of_a_backup_are_those_of_a_service():
    assert {name.partition("/")[0] for name in FILES} < set(backup.FOLDERS)
