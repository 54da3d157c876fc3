"""A service whose database is of the first migration: its backup, restored and served by today's.

It holds a search that is done, another that waits for a worker, an uploaded data set and teacher, a
device without a profile, and a token.
"""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")
pytest.importorskip("dbos", reason="needs tailorbert[service]")

from fastapi.testclient import TestClient

from nas.cli import main
from nas.service.api.app import create_app
from nas.service.database.engine import open_database
from nas.service.database.revisions import is_current, migrate
from nas.service.jobs.durable_queue import QUEUE, VERSION, WORKFLOW, DurableQueue
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from tests.compatibility.conftest import SAMPLES

TABLES = {"audit": 6, "events": 238, "searches": 2, "targets": 1, "tokens": 1, "uploads": 2}
"""How many rows the first migration's tables hold."""


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a service that was restored and not started yet; tests copy it."""
    data = tmp_path_factory.mktemp("restored") / "data"
    archive = str(SAMPLES / "service.tar.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["nas", "admin", "restore", "--data", str(data), archive])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return data


@pytest.fixture
def service(restored: Path, tmp_path: Path) -> Iterator[Service]:
    shutil.copytree(restored, tmp_path / "data")
    settings = ServiceSettings(data=tmp_path / "data", auth="required", hosts=("testserver",))
    engine = open_database(settings.database_url)
    assert not is_current(engine)
    migrate(engine)
    assert is_current(engine)
    yield Service(settings, engine, DurableQueue(engine))
    engine.dispose()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    """Of the token that was made then."""
    token = (SAMPLES / "service.token").read_text()
    with TestClient(create_app(service), headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


def test_the_sample_is_of_the_first_migration(restored: Path) -> None:
    with closing(sqlite3.connect(restored / "service.db")) as database:
        assert database.execute("select * from tailorbert_version").fetchall() == [("0001",)]
        for table, rows in TABLES.items():
            assert database.execute(f"select count(*) from {table}").fetchone() == (rows,)


def test_a_token_is_known(client: TestClient) -> None:
    assert client.get("/v1/whoami").json()["owner"] == "ada"
    (token,) = client.get("/v1/tokens").json()["items"]
    assert (token["owner"], token["scopes"]) == ("ada", ["admin"])


def test_searches_are_told(client: TestClient) -> None:
    waiting, done = client.get("/v1/searches").json()["items"]
    assert (waiting["status"], done["status"]) == ("queued", "done")
    assert [one["request"]["seed"] for one in (waiting, done)] == [1, 0]
    assert done["request"]["budgets"] == ["5ms"]
    assert done["name"] is None
    assert client.get(f"/v1/searches/{done['id']}/models").json() == done["models"]
    (model,) = done["models"]
    assert (model["score"], model["p50_ms"], model["parameters"]) == (1.0, 0.031078, 1651)
    assert model["above_baseline"] is None, "which was not told then"


def test_a_model_is_handed_over(client: TestClient) -> None:
    _, done = client.get("/v1/searches").json()["items"]
    place = f"/v1/searches/{done['id']}/models/0"
    report = client.get(f"{place}/report.json").json()
    assert report["measured_p50_ms"] == done["models"][0]["p50_ms"]
    with zipfile.ZipFile(io.BytesIO(client.get(f"{place}/archive").content)) as archive:
        assert archive.testzip() is None
        config = json.loads(archive.read("model/config.json"))
    assert config["id2label"] == {"0": "class0", "1": "class1", "2": "class2"}
    front = client.get(f"{place}/front").json()
    assert front["points"][0]["latency_ms"] == min(one["latency_ms"] for one in report["front"])


def test_events_are_read_on(client: TestClient) -> None:
    _, done = client.get("/v1/searches").json()["items"]
    with client.stream(
        "GET", f"/v1/searches/{done['id']}/events", headers={"Last-Event-ID": "3"}
    ) as stream:
        lines = list(stream.iter_lines())
    numbers = [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]
    assert numbers == list(range(4, 238))
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line[:5] == "data:"]
    *_, last, end = data
    assert (last["status"], end) == ("done", {})


def test_a_search_that_waited_is_still_in_the_queue(client: TestClient, service: Service) -> None:
    waiting, _ = client.get("/v1/searches").json()["items"]
    with service.engine.connect() as connection:
        (job,) = connection.exec_driver_sql(
            "select name, queue_name, application_version, workflow_uuid from workflow_status"
            " where status = 'ENQUEUED'"
        ).all()
    assert (job.name, job.queue_name, job.application_version) == (WORKFLOW, QUEUE, VERSION)
    assert job.workflow_uuid == f"{waiting['id']}-1"
    assert client.post(f"/v1/searches/{waiting['id']}:cancel").json()["status"] == "cancelled"
    assert client.post(f"/v1/searches/{waiting['id']}:retry").json()["attempt"] == 2


def test_uploads_are_known(client: TestClient) -> None:
    (data,) = client.get("/v1/datasets").json()["items"]
    assert data["splits"] == {"train": 200}
    assert [column["name"] for column in data["columns"]] == ["text", "label"]
    assert data["labels"]["names"] == ["class0", "class1", "class2"]
    (teacher,) = client.get("/v1/teachers").json()["items"]
    assert (teacher["model_type"], teacher["parameters"]) == ("bert", 6114)
    _, done = client.get("/v1/searches").json()["items"]
    assert (done["request"]["data"], done["request"]["teacher"]) == (data["name"], teacher["name"])


def test_a_device_is_known(client: TestClient) -> None:
    target = client.get("/v1/targets/pi").json()
    assert target["owner"] == "ada"
    assert target["target"]["sequence_length"] == 8
