"""What an operator's machines ask: health, readiness, metrics, traces."""

from __future__ import annotations

import shutil
import time

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")

import sqlalchemy as sa
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from nas.service.api import operations
from nas.service.api.app import create_app
from nas.service.database.tables import searches, targets, tasks
from nas.service.running.metrics import folder_bytes


def values(client):
    """Every sample: (name, labels) -> value."""
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def add_search(engine, number, status, *, ago=0.0, stage=None):
    now = time.time()
    with engine.begin() as connection:
        connection.execute(
            searches.insert().values(
                id=f"{number:016x}",
                owner="ada",
                created=now - ago,
                updated=now - ago,
                status=status,
                attempt=1,
                stage=stage,
                priority=100,
                request={},
                expired=False,
            )
        )


def test_the_process_is_alive_and_ready(client):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}


def fault(client):
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.json()["detail"]


def test_readiness_is_looked_at_once_for_many_who_ask(client, service, monkeypatch):
    monkeypatch.setattr("nas.service.api.operations._REMEMBERED_S", 3600.0)
    asked = []
    sa.event.listen(service.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    assert client.get("/readyz").status_code == 200
    first = len(asked)
    assert client.get("/readyz").status_code == 200
    assert len(asked) == first > 0


def test_tables_of_another_version_are_not_ready(client, service):
    with service.engine.begin() as connection:
        connection.execute(sa.text("update tailorbert_version set version_num = '0000'"))
    assert "tables are of another version" in fault(client)


def test_without_its_database_the_service_is_alive_and_not_ready(client, service):
    service.engine.dispose()
    shutil.rmtree(service.settings.data)
    assert fault(client) == "the database does not answer"
    assert client.get("/healthz").status_code == 200


def test_a_full_disk_is_not_ready(client, monkeypatch):
    monkeypatch.setattr(operations, "_LEAST_FREE_BYTES", 10**18)
    assert "are free on the disk" in fault(client)


def test_a_service_that_stops_takes_no_more(client):
    client.app.state.stopping.set()
    assert fault(client) == "the service is shutting down"


def test_requests_are_counted_by_route_and_status(client):
    client.get("/v1/whoami")
    client.get("/v1/whoami", headers={"Authorization": "Bearer tb_guessed"})
    client.delete("/v1/tokens/0123456789abcdef")
    for number in range(3):
        client.get(f"/guess-{number}")
    client.request("BREW", "/v1/whoami")
    found = values(client)

    def requests(method, route, status):
        labels = [("method", method), ("route", route), ("status", str(status))]
        return found.get(("tailorbert_requests_total", *labels))

    assert requests("GET", "/v1/whoami", 200) == 1
    assert requests("GET", "-", 401) == 1
    assert requests("DELETE", "/v1/tokens/{token_id}", 404) == 1
    assert requests("GET", "-", 404) == 3
    assert requests("other", "/v1/whoami", 405) == 1
    whoami = [("method", "GET"), ("route", "/v1/whoami")]
    assert found["tailorbert_request_seconds_count", *whoami] == 1
    assert found["tailorbert_request_seconds_bucket", ("le", "+Inf"), *whoami] == 1


def test_refusals_for_asking_too_often_are_counted(make_service, mid_minute):
    client = TestClient(create_app(make_service(limits={"requests_per_minute": 2})))
    for _ in range(4):
        client.get("/v1/whoami")
    assert client.app.state.metrics.registry.get_sample_value("tailorbert_rate_limited_total") == 2


def test_searches_devices_and_folders_are_counted_as_they_are(client, service):
    add_search(service.engine, 1, "queued", ago=500)
    add_search(service.engine, 2, "queued", ago=100)
    add_search(service.engine, 3, "running", stage="search")
    now = time.time()
    with service.engine.begin() as connection:
        connection.execute(
            targets.insert().values(
                name="board", owner="ada", created=now, target={}, last_seen=now - 60
            )
        )
        connection.execute(
            tasks.insert().values(
                id="t1",
                target="board",
                kind="time",
                request={},
                status="waiting",
                created=now,
                updated=now,
                attempts=0,
            )
        )
    (service.folder("results") / "model").write_bytes(b"x" * 1234)
    found = values(client)
    assert found["tailorbert_database_up",] == 1
    assert found["tailorbert_searches", ("status", "queued")] == 2
    assert found["tailorbert_searches", ("status", "running")] == 1
    assert found["tailorbert_queue_depth",] == 2
    assert found["tailorbert_queue_oldest_seconds",] >= 500
    assert found["tailorbert_stages_running", ("stage", "search")] == 1
    assert found["tailorbert_tasks", ("status", "waiting")] == 1
    assert found["tailorbert_target_silent_seconds", ("target", "board")] >= 60
    assert found["tailorbert_data_bytes", ("folder", "results")] == 1234


def test_folders_are_not_walked_at_each_scrape(client, service):
    (service.folder("results") / "model").write_bytes(b"x" * 10)
    key = ("tailorbert_data_bytes", ("folder", "results"))
    assert values(client)[key] == 10
    (service.folder("results") / "other").write_bytes(b"x" * 10)
    assert values(client)[key] == 10
    assert folder_bytes(service.folder("results")) == 20


def test_metrics_outlive_the_database(make_service):
    service = make_service()
    client = TestClient(create_app(service))
    service.engine.dispose()
    shutil.rmtree(service.settings.data)
    found = values(client)
    assert found["tailorbert_database_up",] == 0
    assert ("tailorbert_queue_depth",) not in found
