"""``nas submit``, ``watch`` and ``fetch``, as a person types them."""

from __future__ import annotations

import asyncio
import io
import json as jsons
import signal
import socket
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from fastapi.responses import StreamingResponse
from typer.testing import CliRunner, Result

from nas.commands import client as commands
from nas.service.client.service_client import content_digest
from supernet.errors import NasError
from tests.nas.service.scripted import MODEL, SEARCH, archive, json, problem, stream

SHAPE = {
    "hidden_size": 192,
    "layers": [{"num_heads": 6, "qkv_size": 192, "intermediate_size": 384}] * 3,
}
FOUND = MODEL | {"architecture": SHAPE}
DONE = SEARCH | {"models": [FOUND]}
SLOW = FOUND | {"number": 1, "budget": "5ms@p95"}

Nas = Callable[..., Result]


def told(kind: str, number: int, **data: object) -> str:
    return f"id: {number}\nevent: {kind}\ndata: {jsons.dumps(data)}\n\n"


STORY = (
    told("status", 1, status="queued", attempt=1),
    told("status", 2, status="running", attempt=1),
    told("stage", 3, stage="teacher", state="began"),
    told("progress", 4, stage="teacher", title="Fine-tune the teacher", done=1, total=3),
    told("progress", 5, stage="teacher", title="Fine-tune the teacher", done=3, total=3),
    told("stage", 6, stage="teacher", state="ended", seconds=1.5, reused=False),
    told("line", 7, text="teacher   accuracy 0.96 [validation]\x1b[2J", level="info"),
    told("search", 8, scored=5, planned=10, front_size=2, per_minute=60.0, seconds_left=5.0,
         expected_gain=None, best=[{"budget": "4x", "latency_ms": 2.0, "score": 0.8,
                                    "architecture": "3x192"}]),
    told("line", 9, text="it is hot", level="warning"),
    told("a kind of a later version", 10, x=1),
    told("status", 11, status="done", attempt=1),
    "event: end\ndata: {}\n\n",
)  # fmt: skip


@pytest.fixture
def nas(running, monkeypatch) -> Nas:
    """Runs a command against the scripted server."""
    app = typer.Typer()
    for command in ("submit", "watch", "fetch", "searches", "cancel", "retry"):
        app.command()(getattr(commands, command))
    monkeypatch.setenv("NAS_SERVER", running[1])
    monkeypatch.setenv("NAS_TOKEN", "tb_x")
    monkeypatch.setattr("nas.commands.options.out._width", 120)  # what it was at its import counts
    monkeypatch.setenv("TERM", "dumb")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Result) -> str:
    """The one line of a fault, which ``nas`` turns into exit code 2."""
    assert isinstance(result.exception, NasError)
    return str(result.exception)


def test_submitting_prints_the_id_alone(scripted, nas):
    scripted.on("POST /v1/searches", json(SEARCH | {"status": "queued"}, 201))
    result = nas("submit", "--latency", "4x", "--latency", "5ms", "--target", "phone", "--seed", 3)
    assert (result.exit_code, result.stdout) == (0, "s1\n")
    request, body = scripted.asked[0]
    assert request.headers["authorization"] == "Bearer tb_x"
    assert jsons.loads(body) == {
        "teacher": "minilm",
        "data": "pydoc",
        "text_columns": None,
        "label_column": "label",
        "metric": None,
        "labels": None,
        "space": None,
        "targets": ["phone"],
        "budgets": ["4x", "5ms"],
        "recipe": "full",
        "seed": 3,
        "priority": 100,
    }


def test_ones_own_words_and_a_webhook_are_sent_where_they_are_given(scripted, nas):
    scripted.on("POST /v1/searches", json(SEARCH, 201))
    given = {"name": "Help desk", "note": "nightly", "webhook": "https://hooks.example.org/x"}
    options = [word for key, value in given.items() for word in (f"--{key}", value)]
    assert nas("submit", "--latency", "4x", *options).exit_code == 0
    sent = jsons.loads(scripted.asked[0][1])
    assert {key: sent[key] for key in given} == given


def test_what_is_submitted_is_what_the_service_accepts(scripted, nas):
    from nas.service.searches.requests import SearchRequest

    scripted.on("POST /v1/searches", json(SEARCH, 201))
    nas("submit", "--latency", "4x")
    assert SearchRequest.model_validate_json(scripted.asked[0][1]).budgets == ("4x",)


def test_a_recipe_and_a_space_of_ones_own_are_sent_as_they_stand(scripted, nas, tmp_path):
    recipe, space = tmp_path / "mine.yaml", tmp_path / "space.yml"
    recipe.write_text("max_length: 32\nsearch: {evaluations: 8}\n")
    space.write_text("hidden_size: [64]\n")
    scripted.on("POST /v1/searches", json(SEARCH, 201))
    assert nas("submit", "--latency", "4x", "--recipe", recipe, "--space", space).exit_code == 0
    sent = jsons.loads(scripted.asked[0][1])
    assert sent["recipe"] == {"max_length": 32, "search": {"evaluations": 8}}
    assert sent["space"] == {"hidden_size": [64]}


def test_data_is_uploaded_once(scripted, nas, tmp_path):
    data = tmp_path / "My Reviews!"
    data.mkdir()
    (data / "train.csv").write_text("text,label\na,1\n")
    scripted.on("POST /v1/searches", json(SEARCH, 201))

    name = f"my-reviews-{content_digest('dataset', data)[:12]}"
    scripted.on(f"GET /v1/datasets/{name}", problem(404, "no such data set"), json({}))
    scripted.on(f"PUT /v1/datasets/{name}", json({}, 201))
    for _ in range(2):
        assert nas("submit", "--latency", "4x", "--data", data).exit_code == 0
    methods = [request.method for request, _ in scripted.asked]
    assert methods == ["GET", "PUT", "POST", "GET", "POST"]
    assert [jsons.loads(scripted.asked[i][1])["data"] for i in (2, 4)] == [name, name]


def test_a_teacher_that_lies_here_is_uploaded_once(scripted, nas, tmp_path):
    teacher = tmp_path / "my-bert"
    teacher.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt", "optimizer.pt", "README.md"):
        (teacher / name).write_text(name)
    scripted.on("POST /v1/searches", json(SEARCH, 201))

    name = f"my-bert-{content_digest('teacher', teacher)[:12]}"
    scripted.on(f"GET /v1/teachers/{name}", problem(404, "no such teacher"), json({}))
    scripted.on(f"PUT /v1/teachers/{name}", json({}, 201))
    words = ("submit", "--latency", "4x", "--teacher", teacher, "--labels", "no, yes")
    for _ in range(2):
        assert nas(*words).exit_code == 0
    methods = [request.method for request, _ in scripted.asked]
    assert methods == ["GET", "PUT", "POST", "GET", "POST"]
    with zipfile.ZipFile(io.BytesIO(scripted.asked[1][1])) as sent:
        assert sent.namelist() == ["config.json", "model.safetensors", "vocab.txt"]
    wanted = jsons.loads(scripted.asked[2][1])
    assert (wanted["teacher"], wanted["labels"]) == (name, ["no", "yes"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["submit", "--latency", "4x", "--teacher", "./absent"],
            "teacher ./absent: no such folder",
        ),
        (["submit", "--latency", "5 parsecs"], "budget '5 parsecs'"),
        (["submit", "--latency", "4x", "--data", "absent.csv"], "data absent.csv: no such file"),
        (["submit", "--latency", "4x", "--recipe", "absent.yaml"], "recipe absent.yaml: cannot be"),
        (["submit", "--latency", "4x", "--token-file", "absent"], "token file absent cannot be"),
        (["submit", "--latency", "4x", "--server", "nas"], "server must be an address"),
        (["submit", "--latency", "4x", "--fetch", __file__], "is no earlier result"),
        (["watch", "../tokens"], "search '../tokens' is no id"),
        (["cancel", "a/b"], "is no id"),
        (["fetch", "..", "-o", "out"], "is no id"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(scripted, nas, words, line):
    assert line in refused(nas(*words))
    assert scripted.asked == []


def test_watching_in_a_pipe_is_plain_lines(scripted, nas):
    scripted.on("GET /v1/searches/s1", json(SEARCH | {"status": "running"}), json(DONE))
    scripted.on("GET /v1/searches/s1/events", stream(*STORY))
    result = nas("watch", "s1")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "the search waits for a worker",
        "the search is running",
        "Fine-tune the teacher ...",
        "teacher   accuracy 0.96 [validation] [2J",
        "Search ...",
        "Search: 5/10 evaluations, 60 a minute, 2 on the front; 0:00:05 left; "
        "4x: 2 ms, 0.8000, 3x192",
        "warning: it is hot",
    ]
    assert result.stdout == (
        "4x on cpu: 3x192 6h q192 f384, 4.5 ms measured against 5 ms asked (p50), "
        "4.4x the teacher's speed, accuracy 0.9000 (the teacher's 0.9600)\n"
    )


@pytest.mark.parametrize(
    ("status", "line"), [("failed", "s1 failed: out of memory"), ("cancelled", "s1 cancelled")]
)
def test_a_search_that_ends_without_models_is_exit_code_1(scripted, nas, status, line):
    error = "out of memory" if status == "failed" else None
    ended = SEARCH | {"status": status, "error": error}
    scripted.on("GET /v1/searches/s1", json(ended))
    scripted.on("GET /v1/searches/s1/events", stream(told("status", 1, status=status), STORY[-1]))
    result = nas("watch", "s1")
    assert (result.exit_code, result.stderr) == (1, f"search {line}\n")


def test_ctrl_c_leaves_the_search_running_and_says_so(scripted, nas):
    async def interrupted():
        yield STORY[0].encode()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        while True:
            await asyncio.sleep(0.01)
            yield b": alive\n\n"

    scripted.on("GET /v1/searches/s1", json(SEARCH | {"status": "running"}))
    scripted.on("GET /v1/searches/s1/events", lambda _: StreamingResponse(interrupted()))
    result = nas("watch", "s1")
    assert result.exit_code == 130
    assert result.stderr.endswith(
        "search s1 goes on: `nas watch` shows it again, `nas cancel` ends it\n"
    )
    assert {request.method for request, _ in scripted.asked} == {"GET"}


def test_submitting_with_fetch_leaves_the_model_in_its_folder(scripted, nas, tmp_path):
    scripted.on("POST /v1/searches", json(SEARCH, 201))
    scripted.on("GET /v1/searches/s1", json(DONE))
    scripted.on("GET /v1/searches/s1/events", stream(*STORY))
    scripted.on("GET /v1/searches/s1/models/0", json(FOUND))
    scripted.on("GET /v1/searches/s1/models/0/archive", archive(200_000), archive())
    result = nas("submit", "--latency", "4x", "--fetch", tmp_path / "fast")
    assert result.exit_code == 0, result.exception
    assert result.stdout.splitlines()[-1] == f"See {tmp_path}/fast/report.html"
    assert (tmp_path / "fast" / "model" / "config.json").is_file()


def test_several_models_have_a_folder_each(scripted, nas, tmp_path):
    asked = SEARCH["request"] | {"budgets": ["4x", "5ms@p95"]}
    scripted.on("GET /v1/searches/s1", json(DONE | {"models": [FOUND, SLOW], "request": asked}))
    for number, model in enumerate((FOUND, SLOW)):
        scripted.on(f"GET /v1/searches/s1/models/{number}", json(model))
        scripted.on(f"GET /v1/searches/s1/models/{number}/archive", archive())
    assert nas("fetch", "s1", "-o", tmp_path / "all").exit_code == 0
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"4x", "5ms@p95"}
    assert nas("fetch", "s1", "-o", tmp_path / "one", "--model", 1).exit_code == 0
    assert (tmp_path / "one" / "model.onnx").is_file()
    assert "no model 2" in refused(nas("fetch", "s1", "-o", tmp_path / "two", "--model", 2))


@pytest.mark.parametrize("change", [{"target": "../.."}, {"budget": "../../5ms"}])
def test_no_folder_is_named_by_what_could_be_a_path(scripted, nas, tmp_path, change):
    models = [FOUND, SLOW | {"target": "phone"} | change]
    scripted.on("GET /v1/searches/s1", json(DONE | {"models": models}))
    line = refused(nas("fetch", "s1", "-o", tmp_path / "a" / "b"))
    assert "cannot be" in line or "is not understood" in line
    assert list(tmp_path.iterdir()) == []


def test_a_search_under_way_has_nothing_to_fetch(scripted, nas, tmp_path):
    scripted.on("GET /v1/searches/s1", json(SEARCH | {"status": "running"}))
    assert "s1 is running: only one that is done" in refused(nas("fetch", "s1", "-o", tmp_path))


def test_listing_cancelling_and_retrying(scripted, nas):
    scripted.on("GET /v1/searches", json({"items": [SEARCH] * 3, "next": None}))
    scripted.on("POST /v1/searches/s1:cancel", json(SEARCH | {"status": "cancelled"}))
    scripted.on("POST /v1/searches/s1:retry", json(SEARCH | {"status": "queued"}))
    listed = nas("searches", "--most", 2, "--owner", "ada").stdout
    assert listed.count("2025-01-01 00:00") == 2
    assert scripted.asked[-1][0].query_params["owner"] == "ada"
    assert "is cancelled" in nas("cancel", "s1").stdout
    assert "is queued again" in nas("retry", "s1").stdout


def test_a_server_that_is_not_there_is_one_line_that_says_what_to_do(nas, monkeypatch):
    monkeypatch.setattr("nas.service.client.service_client._SENT_AGAIN", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    line = refused(nas("cancel", "s1", "--server", f"http://127.0.0.1:{port}"))
    assert "cannot be reached (" in line
    assert line.endswith("): start one with `nas serve`, or name another by --server or NAS_SERVER")


def test_who_shows_no_token_is_told_how_to_give_one(scripted, nas):
    scripted.on("POST /v1/searches/s1:cancel", problem(401, "a bearer token is needed"))
    assert refused(nas("cancel", "s1")) == (
        "a bearer token is needed: give one by --token-file, NAS_TOKEN or NAS_TOKEN_FILE"
    )


def test_help_needs_no_heavy_package():
    import subprocess
    import sys

    listing = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    statement = "import nas.commands.client, nas.commands.watching, nas.service.client"
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; {listing}"],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"torch", "transformers", "pandas", "matplotlib", "fastapi", "sqlalchemy", "dbos"}
    assert heavy & set(jsons.loads(done.stdout)) == set()


@pytest.mark.parametrize(
    ("url", "token", "warned"),
    [
        ("http://nas.example.org", "tb_x", True),
        ("http://nas.example.org", None, False),
        ("https://nas.example.org", "tb_x", False),
        ("http://127.0.0.1:8765", "tb_x", False),
        ("http://[::1]:8765", "tb_x", False),
        ("http://localhost", "tb_x", False),
    ],
)
def test_a_token_that_others_may_overhear_is_warned_of(
    url, token, warned, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("NAS_TOKEN", raising=False)
    file = None
    if token is not None:
        file = tmp_path / "token"
        file.write_text(token)
    with commands._connected(url, file):
        pass
    lines = [f"warning: the token is sent to {url} unencrypted; use https://"] if warned else []
    assert capsys.readouterr().err.splitlines() == lines
