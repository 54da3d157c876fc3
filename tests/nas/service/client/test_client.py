"""The client against a server of the test's own, which goes away in the middle as real ones do."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="needs tailorbert[service]")
pytest.importorskip("uvicorn", reason="needs tailorbert[service]")

from fastapi import Response

from latency.connection import RefusedError
from nas.service.client import ServiceClient
from nas.service.client.download import unpack
from nas.service.client.event_stream import StreamEvent, read_events
from nas.service.client.replies import Search, understood
from nas.service.client.service_client import content_digest
from supernet.errors import NasError
from tests.nas.service.scripted import (
    ARCHIVE,
    MODEL,
    SEARCH,
    Scripted,
    archive,
    json,
    problem,
    stream,
)


@pytest.fixture
def client(running: tuple[Scripted, str]) -> Iterator[ServiceClient]:
    with ServiceClient(running[1], "tb_x", waits_s=[0.0, 0.0, 0.0]) as client:
        yield client


EVENTS = "/v1/searches/s1/events"
DONE = 'id: 3\nevent: status\ndata: {"status": "done"}\n\nevent: end\ndata: {}\n\n'


def test_events_go_on_where_the_connection_was_lost(scripted, client):
    first = 'id: 1\nevent: stage\ndata: {"stage": "teacher", "state": "began"}\n\n: alive\n\n'
    scripted.on(
        f"GET {EVENTS}",
        stream(first, "id: 2\nevent: line\nda", lost=True),
        problem(503, "restarting"),
        stream("", lost=False),  # a proxy that ends the stream in good order
        stream('id: 1\nevent: stage\ndata: {"again": 1}\n\n', "id: 2\nevent: line\ndata: {}\n\n"),
        stream(DONE),
    )
    losses: list[str] = []
    found = list(client.events("s1", lost=losses.append))
    assert [(event.number, event.kind) for event in found] == [
        (1, "stage"), (2, "line"), (3, "status"), (None, "end"),
    ]  # fmt: skip
    known = [request.headers.get("last-event-id") for request, _ in scripted.asked]
    assert known == [None, "1", "1", "1", "2"]
    assert len(losses) == 4
    assert "restarting" in losses


def test_a_server_that_stays_away_is_given_up(scripted, client):
    scripted.on(f"GET {EVENTS}", stream("", lost=True))
    with pytest.raises(NasError, match=r"connection to http://127\.0\.0\.1:\d+ is lost") as raised:
        list(client.events("s1"))
    assert len(scripted.asked) == 4
    assert "\n" not in str(raised.value)


def test_events_of_no_search_are_not_waited_for(scripted, client):
    scripted.on(f"GET {EVENTS}", problem(404, "no search s1"))
    with pytest.raises(RefusedError, match=r"^no search s1$"):
        list(client.events("s1"))
    assert len(scripted.asked) == 1


def response_of(chunks: Iterable[bytes]) -> httpx2.Response:
    return httpx2.Response(
        200,
        headers={"Content-Type": "text/event-stream"},
        content=iter(chunks),
        request=httpx2.Request("GET", "http://nas/v1/searches/s1/events"),
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["\n", "\r\n"]), st.text(st.characters(codec="utf-8"), max_size=9)
        ),
        min_size=1,
    ),
    st.data(),
)
def test_events_are_read_however_they_are_cut(events, data):
    from json import dumps

    text = "".join(
        f"id: {number}{end}event: line{end}data: {{}}{end}{end}".replace(
            "{}", dumps({"text": told}, ensure_ascii=False)
        )
        for number, (end, told) in enumerate(events)
    )
    content = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(content)), max_size=5)))
    chunks = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    assert list(read_events(response_of(chunks))) == [
        StreamEvent(number, "line", {"text": told}) for number, (_, told) in enumerate(events)
    ]


@pytest.mark.parametrize("text", ["data: {broken", "id: x\ndata: {}", "data: [1]"])
def test_an_event_of_another_service_is_one_line(text):
    with pytest.raises(NasError, match="the server sent an event"):
        list(read_events(response_of([text.encode(), b"\n\n"])))


MODEL_PATH = "/v1/searches/s1/models/0"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_download_goes_on_where_it_was_cut_off(scripted, client, tmp_path):
    scripted.on(f"GET {MODEL_PATH}", json(MODEL))
    scripted.on(f"GET {MODEL_PATH}/archive", archive(200_000), archive(400_000), archive())
    client.fetch("s1", 0, tmp_path / "fast")
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as packed:
        assert contents(tmp_path / "fast") == {n: packed.read(n) for n in packed.namelist()}
    assert [path.name for path in tmp_path.iterdir()] == ["fast"]
    ranges = [request.headers.get("range") for request, _ in scripted.asked[1:]]
    assert ranges[0] is None
    begins = [int(one.removeprefix("bytes=").removesuffix("-")) for one in ranges[1:]]
    assert begins == sorted(begins)
    assert begins[0] > 0


def test_a_download_goes_on_in_a_later_process(scripted, client, tmp_path):
    (tmp_path / "fast.partial").write_bytes(ARCHIVE[:123_456])
    scripted.on(f"GET {MODEL_PATH}", json(MODEL))
    scripted.on(f"GET {MODEL_PATH}/archive", archive())
    told: list[tuple[int, int]] = []
    client.fetch("s1", 0, tmp_path / "fast", lambda *shown: told.append(shown))
    assert scripted.asked[-1][0].headers["range"] == "bytes=123456-"
    assert told[-1] == (len(ARCHIVE), len(ARCHIVE))
    assert (tmp_path / "fast" / "model.onnx").is_file()


@pytest.mark.parametrize("before", [b"of another model", b"x" * (len(ARCHIVE) + 1)])
def test_a_beginning_of_another_archive_is_dropped(scripted, client, tmp_path, before):
    (tmp_path / "fast.partial").write_bytes(before)
    scripted.on(f"GET {MODEL_PATH}", json(MODEL))
    scripted.on(f"GET {MODEL_PATH}/archive", archive())
    client.fetch("s1", 0, tmp_path / "fast")
    assert (tmp_path / "fast" / "model.onnx").read_bytes() == b"onnx" * 1000


def test_an_archive_with_another_checksum_is_not_unpacked(scripted, client, tmp_path):
    scripted.on(f"GET {MODEL_PATH}", json(MODEL))
    scripted.on(f"GET {MODEL_PATH}/archive", archive(content=ARCHIVE[::-1]))
    with pytest.raises(NasError, match="another checksum"):
        client.fetch("s1", 0, tmp_path / "fast")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_without_end_is_not_taken(scripted, client, tmp_path):
    scripted.on(f"GET {MODEL_PATH}", json(MODEL))
    scripted.on(f"GET {MODEL_PATH}/archive", archive(content=ARCHIVE * 2))
    with pytest.raises(NasError, match=f"more than the {len(ARCHIVE)} bytes"):
        client.fetch("s1", 0, tmp_path / "fast")


def test_fetching_replaces_an_earlier_result_and_nothing_else(scripted, client, tmp_path):
    scripted.on(f"GET {MODEL_PATH}", json(MODEL))
    scripted.on(f"GET {MODEL_PATH}/archive", archive())
    earlier, other = tmp_path / "earlier", tmp_path / "other"
    earlier.mkdir()
    (earlier / "report.json").write_text("old")
    client.fetch("s1", 0, earlier)
    assert (earlier / "report.json").read_text() == "{}"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(NasError, match="is no earlier result"):
        client.fetch("s1", 0, other)
    assert contents(other) == {"thesis.tex": b"mine"}


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/etc/evil", "model/../../evil", "model/..", "model", "model.onnx/evil",
        "evil.sh", "model\\..\\evil", "./report.json", "model//x", "C:evil", "model/a\nb",
    ],
)  # fmt: skip
def test_what_is_no_part_of_a_result_is_not_unpacked(tmp_path, name):
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("report.json", "{}")
        file.writestr(name, "evil")
    folder = tmp_path / "into"
    folder.mkdir()
    with pytest.raises(NasError, match="no part of a result"):
        unpack(packed, folder)
    assert list(folder.iterdir()) == []


def test_texts_command_no_terminal():
    told = SEARCH | {"owner": "a\x1b[2Jda", "error": "it\r\x9bfailed", "models": [MODEL]}
    told["models"] = [MODEL | {"metric": "accu\u202eracy", "architecture": {"a\x07": "\x1b"}}]
    search = understood(Search, told)
    assert (search.owner, search.error) == ("a [2Jda", "it  failed")
    assert search.models is not None
    assert (search.models[0].metric, search.models[0].architecture) == ("accu racy", {"a ": " "})


def test_links_and_doubles_are_not_unpacked(tmp_path):
    link = zipfile.ZipInfo("model/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(NasError, match="no part of a result"):
        unpack(packed, tmp_path)
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("model/a", "1")
        file.writestr("model/A", "2")
    with pytest.raises(NasError, match="twice"):
        unpack(packed, tmp_path)
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("model/a", "1")
        file.writestr("model/a/b", "2")
    with pytest.raises(NasError, match="cannot be unpacked"):
        unpack(packed, tmp_path / "folders")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model/a", bytes(1_000_000))
    with pytest.raises(NasError, match="more than 2 times its size"):
        unpack(packed, tmp_path / "bomb")
    assert not (tmp_path / "bomb").exists()
    packed.write_bytes(b"no zip")
    with pytest.raises(NasError, match="cannot be unpacked"):
        unpack(packed, tmp_path)


def test_a_submission_that_was_cut_off_is_sent_again_under_its_key(scripted, client):
    scripted.on(
        "POST /v1/searches",
        stream("{", lost=True),
        problem(429, "slowly", **{"Retry-After": "0"}),
        json(SEARCH, 201),
    )
    found = client.create_search({"budgets": ["4x"]})
    assert (found.id, found.request.budgets) == ("s1", ["4x"])
    keys = [request.headers["idempotency-key"] for request, _ in scripted.asked]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert scripted.asked[0][0].headers["authorization"] == "Bearer tb_x"
    assert scripted.asked[0][1] == b'{"budgets":["4x"]}'
    client.create_search({"budgets": ["4x"]})
    assert scripted.asked[3][0].headers["idempotency-key"] != keys[0]


def test_pages_of_a_list_are_followed(scripted, client):
    scripted.on(
        "GET /v1/searches",
        json({"items": [SEARCH, SEARCH], "next": "c2"}),
        json({"items": [SEARCH], "next": None}),
    )
    assert len(list(client.searches(status="done"))) == 3
    assert [dict(request.query_params) for request, _ in scripted.asked] == [
        {"status": "done"},
        {"status": "done", "cursor": "c2"},
    ]


def test_cancelling_and_retrying(scripted, client):
    scripted.on("POST /v1/searches/s1:cancel", json(SEARCH | {"status": "cancelled"}))
    scripted.on("POST /v1/searches/s1:retry", problem(409, "search s1 is running"))
    assert client.cancel("s1").status == "cancelled"
    with pytest.raises(RefusedError, match="search s1 is running"):
        client.retry("s1")


@pytest.mark.parametrize(
    ("response", "line"),
    [
        (problem(422, "budget '5 parsecs' is not understood"), "^budget '5 parsecs' is not"),
        (problem(404, "a\\u001b[2Jb"), r"^a \[2Jb$"),
        (lambda _: Response("<html>", 500), "answers 500 Internal Server Error"),
        (lambda _: Response("<html>", 302, {"Location": "http://elsewhere"}), "answers 302 Found"),
        (lambda _: Response("<html>", 200), "answers no JSON: is it this service"),
        (json({"id": 1}), "form that is not understood"),
    ],
)
def test_a_refusal_is_one_line(scripted, client, response, line):
    scripted.on("GET /v1/searches/s1", response)
    with pytest.raises(NasError, match=line) as raised:
        client.search("s1")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("url", "token", "line"),
    [
        ("nas.example.org", None, "must be an address such as"),
        ("ftp://nas", None, "must be an address such as"),
        ("http://nas:port", None, "not well-formed"),
        ("http://nas", "tb_\nx", "the token must be"),
    ],
)
def test_addresses_and_tokens_that_cannot_be(url, token, line):
    with pytest.raises(NasError, match=line):
        ServiceClient(url, token)


def test_a_file_is_uploaded_as_it_is_and_a_folder_as_a_zip(scripted, client, tmp_path):
    scripted.on("PUT /v1/datasets/mine", json({}, 201))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\n" + "a,1\n" * 100_000)
    (folder / "test.csv").write_text("text,label\n")
    (folder / "notes.txt").write_text("not data")
    (folder / "test.csv").rename(tmp_path / "märz, Teil 2.CSV")
    client.upload("dataset", "mine", tmp_path / "märz, Teil 2.CSV")
    (folder / "test.csv").write_text("text,label\n")
    client.upload("dataset", "mine", folder)
    (one, plain), (two, packed) = scripted.asked
    assert (one.query_params["filename"], plain) == ("dataset.csv", b"text,label\n")
    assert two.query_params["filename"] == "dataset.zip"
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        assert {n: archive.read(n) for n in archive.namelist()} == {
            name: (folder / name).read_bytes() for name in ("test.csv", "train.csv")
        }
    assert content_digest("dataset", folder) == hashlib.sha256(packed).hexdigest()


def test_data_that_cannot_be_read_is_one_line(scripted, client, tmp_path):
    scripted.on("PUT /v1/datasets/mine", json({}, 201))
    with pytest.raises(NasError, match="cannot be read: No such file"):
        client.upload("dataset", "mine", tmp_path / "absent.csv")
    with pytest.raises(NasError, match=r"holds no \.parquet, \.csv, \.jsonl files"):
        client.upload("dataset", "mine", tmp_path)


def test_whether_a_dataset_is_there(scripted, client):
    scripted.on(
        "GET /v1/datasets/mine", json({"name": "mine"}), problem(404, "no"), problem(403, "x")
    )
    assert client.has_upload("dataset", "mine")
    assert not client.has_upload("dataset", "mine")
    with pytest.raises(RefusedError):
        client.has_upload("dataset", "mine")
