"""The agent against a service that a test plays: what it says, keeps, and survives."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import onnx
import pytest
from filelock import FileLock

from latency import agent_link
from latency.agent import Agent
from latency.agent_link import DeniedError, Link, LostError
from latency.asked import ModelFile, ProfileAsked, TimeAsked, latencies_from_dicts
from latency.connection import RefusedError, read_token
from latency.onnx_graph import classifier_model
from latency.target import Target
from supernet.architecture import Architecture, EncoderShape
from supernet.configs import load_space
from supernet.errors import NasError

TARGET = Target(threads=1, batch_size=1, sequence_length=16)
SHAPE = EncoderShape(vocab_size=64, max_positions=32)
SMALL = Architecture.uniform(num_layers=1, hidden_size=16, num_heads=2, intermediate_size=32)
TASK = "0" * 32
CLAIM, COMPLETE, FAIL = "tasks:claim", f"{TASK}:complete", f"{TASK}:fail"

Answer = tuple[int, Any]


class Played:
    """A service whose answers a test gives, by the end of the path; 204 where it gives none."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.heard: list[tuple[str, Any]] = []
        self.headers: list[str | None] = []

    def answer(self, path: str, body: bytes, token: str | None) -> Answer:
        self.heard.append((path, json.loads(body) if body else None))
        self.headers.append(token)
        for end, planned in self.answers.items():
            if path.endswith(end) and planned:
                return planned.pop(0)
        return (410, {"detail": "the play is over"}) if path.endswith(CLAIM) else (204, None)

    def told(self, end: str) -> list[Any]:
        return [body for path, body in self.heard if path.endswith(end)]


@pytest.fixture
def service() -> Played:
    return Played()


@pytest.fixture
def address(service: Played) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = service.answer(self.path, body, self.headers.get("Authorization"))
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            sent = b"" if content is None else sent
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_PUT = do_POST = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_link, "_WAITS_S", (0.01,))
    monkeypatch.setattr(agent_link, "_GLANCE_EVERY_S", 0.0)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def play(address: str, tmp_path: Path, said: list[str]) -> Callable[[], str]:
    """Runs an agent until the service tells it to go; returns why."""

    def run() -> str:
        with Link(address, "tb_secret", said.append) as link:
            with pytest.raises(NasError) as ended:
                Agent(link, "pi", TARGET, tmp_path / "state", said.append).run()
            return str(ended.value)

    return run


def time_task(*models: Architecture | ModelFile, shape: EncoderShape = SHAPE) -> dict[str, Any]:
    asked = TimeAsked(target=TARGET, shape=shape, models=models, rounds=2)
    return {"id": TASK, "attempt": 1, "kind": "time", "request": asked.to_dict()}


def test_it_announces_itself_and_times_what_it_fetches(
    service: Played, play: Callable[[], str], tmp_path: Path
) -> None:
    onnx.save(classifier_model(SMALL, SHAPE), str(tmp_path / "given.onnx"))
    content = (tmp_path / "given.onnx").read_bytes()
    file = ModelFile("1.onnx", hashlib.sha256(content).hexdigest())
    service.answers = {CLAIM: [(200, time_task(SMALL, file))], "1.onnx": [(200, content)]}
    assert "the play is over" in play()
    path, announced = service.heard[0]
    assert path == "/v1/targets/pi"
    assert announced["target"] == TARGET.to_dict()
    assert announced["fingerprint"]["cores"] >= 1
    (told,) = service.told(COMPLETE)
    assert told["attempt"] == 1
    assert len(latencies_from_dicts(told["result"], 2)) == 2
    assert service.told(":progress")[-1]["progress"]["share"] == 1.0
    assert set(service.headers) == {"Bearer tb_secret"}
    assert sorted(one.name for one in (tmp_path / "state").iterdir()) == [".lock"]


def test_it_tells_of_more_threads_than_cores(
    service: Played, play: Callable[[], str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency.fingerprint.usable_cores", lambda: [0])
    monkeypatch.setattr("tests.latency.test_agent.TARGET", replace(TARGET, threads=2))
    play()
    assert said[0].startswith("pi: warning: crowded: 2 threads share 1 core")


def test_a_result_is_kept_until_it_is_taken(
    service: Played, play: Callable[[], str], tmp_path: Path, said: list[str]
) -> None:
    service.answers = {
        CLAIM: [(200, time_task(SMALL))],
        COMPLETE: [
            (503, None),
            (302, None),
            (429, None),
            (401, {"detail": "the token is revoked"}),
        ],
    }
    assert "the token is revoked" in play()
    (kept,) = (tmp_path / "state").glob("result.json")
    result = json.loads(kept.read_text())["result"]
    assert "the play is over" in play()  # with another token, say
    assert service.told(COMPLETE)[-1]["result"] == result
    assert len(service.told(CLAIM)) == 2  # the task was not claimed again
    assert not kept.exists()
    assert [line for line in said if "answer" in line] == [
        f"server {service_address(said)} answers 503 Service Unavailable; trying again",
        f"{service_address(said)} answers again",
    ]


def service_address(said: list[str]) -> str:
    return said[0].split()[-1]


def test_what_the_service_does_not_take_fails_the_task(
    service: Played, play: Callable[[], str]
) -> None:
    service.answers = {
        CLAIM: [(200, time_task(SMALL))],
        COMPLETE: [(422, {"detail": "the profile was disturbed"})],
    }
    play()
    (told,) = service.told(FAIL)
    assert "did not take the result" in told["error"]
    assert "the profile was disturbed" in told["error"]


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (
            time_task(SMALL, shape=replace(SHAPE, max_positions=8)),
            "exceeds the model's 8 positions",
        ),
        (time_task(ModelFile("0.onnx", "0" * 64)), "is not the file that the task asks"),
        (time_task(SMALL) | {"request": {}}, "the task's request is not understood"),
        (time_task(SMALL) | {"request": {"target": TARGET.to_dict(), "shape": {"x": 1}}}, "'x'"),
    ],
)
def test_what_cannot_be_measured_fails_in_words(
    service: Played, play: Callable[[], str], task: dict[str, Any], says: str
) -> None:
    service.answers = {CLAIM: [(200, task)], "0.onnx": [(200, b"else")]}
    play()
    (told,) = service.told(FAIL)
    assert says in told["error"]


def test_a_task_that_is_no_longer_wanted_is_dropped(
    service: Played, play: Callable[[], str], tmp_path: Path, said: list[str]
) -> None:
    asked = ProfileAsked(
        target=TARGET,
        space=load_space("tiny"),
        shape=SHAPE,
        seconds=600.0,
        seed=0,
        count_disturbed=True,
    )
    task = {"id": TASK, "attempt": 1, "kind": "profile", "request": asked.to_dict()}
    service.answers = {CLAIM: [(200, task)], ":progress": [(409, {"detail": "not yours"})]}
    play()
    assert f"pi: task {TASK} is no longer wanted" in said
    assert not service.told(COMPLETE) + service.told(FAIL)
    assert not (tmp_path / "state" / "profile.json").exists()


def test_an_agent_begun_anew_asks_for_what_it_was_at(
    service: Played, play: Callable[[], str], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "task.json").write_text(json.dumps(time_task(SMALL)))
    (state / "profile.json").write_text("damaged")
    service.answers = {CLAIM: [(204, None)]}  # it is done, or someone else's
    play()
    first, second = service.told(CLAIM)
    assert first["resume"] == {"id": TASK, "attempt": 1}
    assert second["resume"] is None
    assert not (state / "profile.json").exists()


@pytest.mark.parametrize("unlinks", range(3))
def test_a_result_is_never_given_for_another_task(
    service: Played,
    play: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unlinks: int,
) -> None:
    unlink = Path.unlink
    gone: list[Path] = []

    def cut(path: Path, missing_ok: bool = False) -> None:
        if path.parent == tmp_path / "state" and service.told(COMPLETE):
            if len(gone) == unlinks:
                raise SystemExit("killed")
            gone.append(path)
        unlink(path, missing_ok=missing_ok)

    other = "1" * 32
    service.answers = {CLAIM: [(200, time_task(SMALL))]}
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", cut)
        with pytest.raises(SystemExit):
            play()

    def killed(*_: object, **__: object) -> None:
        raise SystemExit("killed")

    service.answers = {CLAIM: [(200, time_task(SMALL, SMALL) | {"id": other})]}
    with monkeypatch.context() as patched:
        patched.setattr("latency.agent.time_beside", killed)
        with pytest.raises(SystemExit):
            play()
    service.answers = {CLAIM: [(200, time_task(SMALL, SMALL) | {"id": other, "attempt": 2})]}
    play()
    (told,) = service.told(f"{other}:complete")
    assert len(told["result"]) == 2


def test_a_folder_is_one_agents(play: Callable[[], str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with FileLock(state / ".lock"):
        assert play() == f"state {state} is in use by another agent"


def test_the_link_tells_errors_apart(service: Played, address: str) -> None:
    service.answers = {
        "gone": [(404, {"detail": "no task"})],
        "forbidden": [(403, {"detail": "belongs to bob"})],
        "taken": [(409, {"detail": "the server's own"})],
        "portal": [(200, b"<html>")],
        "slow": [(500, None), (200, {"at": "last"})],
    }
    with Link(f"{address}/", None, print) as link:
        for path, error in (
            ("/v1/tasks/gone", LostError),
            ("/forbidden", DeniedError),
            ("/taken", RefusedError),
            ("/portal", DeniedError),
        ):
            with pytest.raises(error):
                link.insist("POST", path, {})
        assert link.insist("POST", "/slow", {}) == {"at": "last"}


@pytest.mark.parametrize("server", ["nas.example.org", "ftp://nas", ""])
def test_an_address_is_of_http(server: str) -> None:
    with pytest.raises(NasError, match="server must be an address"):
        Link(server, None, print)


@pytest.mark.parametrize("content", ["", "two words", "tb_ü", "tb_\x00"])
def test_a_token_file_holds_one_token(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(NasError, match="token file"):
        read_token(path)
    path.write_text("tb_abc\n")
    assert read_token(path) == "tb_abc"
