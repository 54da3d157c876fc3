"""The client and the service together: what one says, the other understands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from latency.connection import RefusedError
from nas.commands.watching import Watcher
from nas.service.access.tokens import create_token
from nas.service.api.app import create_app
from nas.service.client import ServiceClient
from nas.service.client.event_stream import StreamEvent
from nas.service.searches import lifecycle
from nas.service.service import Service
from nas.service.upkeep.retention import collect
from nas.terminal.progress import Display
from tests.nas.service.live import serving, wait_for
from tests.nas.service.seeded import finished_search
from tests.ports import free_port


@pytest.fixture
def client(service: Service, listen) -> Iterator[ServiceClient]:
    """A client of a service that listens, with a token of user ada."""
    _, token = create_token(service.engine, "ada", ["read", "submit"])
    host, port = listen(create_app(service), service)
    with ServiceClient(f"http://{host}:{port}", token, waits_s=[0.0]) as client:
        yield client


def test_a_search_is_submitted_once_for_a_key_listed_and_cancelled(client):
    request = {"budgets": ["4x"], "recipe": "quick", "data": "pydoc", "seed": 3}
    first, again = (client.create_search(request, key="k1") for _ in range(2))
    assert first.id == again.id
    assert client.search(first.id).status == "queued"
    other = client.create_search(request)
    assert [one.id for one in client.searches(owner="ada")] == [other.id, first.id]
    assert client.cancel(first.id).status == "cancelled"
    assert client.retry(first.id).status == "queued"
    with pytest.raises(RefusedError, match="'parsecs' is unknown"):
        client.create_search(request | {"data": "parsecs"})


def test_a_finished_search_is_watched_and_fetched(service, client, tmp_path, capsys):
    made = finished_search(service, ["4x", "2x"])
    with Watcher(Display(), ["4x", "2x"]) as watcher:
        for event in client.events(made["id"]):
            watcher.show(event)
    told = capsys.readouterr().err
    assert "fine-tuning ..." in told
    assert "the space holds 1,824 architectures" in told
    assert "24/48 evaluations" in told
    model = client.fetch(made["id"], 1, tmp_path / "fast")
    assert model.budget == "2x"
    assert (tmp_path / "fast" / "model.onnx").stat().st_size == 200_000


def test_a_download_goes_on_by_range(service, client, tmp_path):
    made = finished_search(service)
    archive = service.settings.data / "results" / made["id"] / "0" / "archive.zip"
    (tmp_path / "fast.partial").write_bytes(archive.read_bytes()[:150_000])
    shown: list[int] = []
    model = client.fetch(made["id"], 0, tmp_path / "fast", lambda done, _: shown.append(done))
    assert shown[0] > 150_000
    assert model.archive.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_whoever_missed_the_end_is_told_at_once(service, client):
    made = finished_search(service)
    last = [event.number for event in client.events(made["id"])][-2]
    assert [event.kind for event in client.events(made["id"], after=last)] == ["end"]


def test_a_search_whose_events_have_gone_still_ends(service, client, tmp_path):
    made = finished_search(service)
    strict = service.settings.model_copy(
        update={"retention": service.settings.retention.model_copy(
            update={"event_days": 1e-9, "result_days": 1e-9}
        )}
    )  # fmt: skip
    collected = collect(strict, service.engine)
    assert collected.models == (made["id"],)
    assert [event.kind for event in client.events(made["id"])] == ["status", "end"]
    assert client.search(made["id"]).expired
    with pytest.raises(RefusedError, match="have gone"):
        client.fetch(made["id"], 0, tmp_path / "fast")


def test_watching_outlives_a_restart_of_the_server(service: Service):
    _, token = create_token(service.engine, "ada", ["read", "submit"])
    port, seen = free_port(), list[StreamEvent]()

    def watch() -> None:
        with ServiceClient(f"http://127.0.0.1:{port}", token, waits_s=[0.1] * 1200) as client:
            seen.extend(client.events(search_id, lost=lost.append))

    lost: list[str] = []
    with serving(service, port) as url, ServiceClient(url, token) as client:
        search_id = client.create_search({"budgets": ["4x"]}).id
        watching = Thread(target=watch)
        watching.start()
        lifecycle.begin(service.engine, search_id, 1)
    wait_for(lambda: lost)
    lifecycle.finish(service.engine, search_id, 1, error="out of luck")
    with serving(service, port):
        watching.join(120)
    assert not watching.is_alive()
    assert [event.number for event in seen] == [1, 2, 3, None]
    assert [event.data.get("status") for event in seen] == ["queued", "running", "failed", None]


def test_data_is_uploaded_and_named(client, tmp_path: Path):
    file = tmp_path / "train.csv"
    rows = [f"{word} number {number},{word}" for number in range(30) for word in ("good", "bad")]
    file.write_text("text,label\n" + "\n".join(rows) + "\n")
    folder = tmp_path / "both"
    folder.mkdir()
    for name in ("train.csv", "test.csv"):
        (folder / name).write_bytes(file.read_bytes())
    for name, path in (("file", file), ("folder", folder)):
        assert not client.has_upload("dataset", name)
        client.upload("dataset", name, path)
        assert client.has_upload("dataset", name)
    assert client.create_search({"budgets": ["4x"], "data": "folder"}).request.data == "folder"
