"""Tasks: whose they are, until when, and what comes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from latency.asked import TimeAsked, latencies_to_dicts
from latency.target import Latency, Target
from nas.service.access.tokens import create_token
from nas.service.api.app import create_app
from nas.service.database.engine import open_database
from nas.service.database.tables import metadata, tasks
from nas.service.devices.targets import find_target
from nas.service.devices.tasks import (
    MOST_CLAIMS,
    Claim,
    LostError,
    claim_task,
    end_task,
    find_task,
    forget_tasks,
    id_of_task,
    note_progress,
    submit_task,
    task_folder,
)
from nas.service.service import Service
from supernet.architecture import Architecture, EncoderShape
from tests.nas.service.databases import KINDS, database_of

NOBODY = Path("nowhere")
SMALL = Architecture.uniform(num_layers=1, hidden_size=8, num_heads=1, intermediate_size=8)
TARGET = Target(threads=1, batch_size=1, sequence_length=16)
ASKED = TimeAsked(target=TARGET, shape=EncoderShape(), models=(SMALL,), rounds=5)
RESULT = latencies_to_dicts([Latency.of([1.0, 2.0])])
PROGRESS = {"share": 0.5, "measured": 3, "error_percent": None}


@pytest.fixture(scope="module", params=KINDS)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    found = open_database(database_of(request, tmp_path_factory.mktemp("tasks")))
    metadata.create_all(found)
    yield found
    found.dispose()


@pytest.fixture(autouse=True)
def emptied(engine: Engine) -> None:
    clear(engine)


def clear(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(tasks.delete())


def submit(engine: Engine, name: str, search_id: str = "s1") -> str:
    found = id_of_task(name)
    submit_task(
        engine, found, target="pi", search_id=search_id, kind="time", request=ASKED.to_dict()
    )
    return found


def claimed(engine: Engine, resume: Claim | None = None) -> Claim:
    task = claim_task(engine, "pi", resume)
    assert task is not None
    return Claim(task.id, task.attempts)


def expire(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(tasks.update().values(lease=time.time() - 1))


def test_what_is_asked_twice_is_one_task(engine: Engine) -> None:
    assert submit(engine, "a") == submit(engine, "a")
    first = claimed(engine)
    end_task(engine, NOBODY, first, result=RESULT)
    submit(engine, "a")
    assert claim_task(engine, "pi") is None  # done already
    task = find_task(engine, first.id)
    assert task is not None
    assert task.result == RESULT


def test_a_task_that_failed_is_tried_again_when_asked_again(engine: Engine) -> None:
    submit(engine, "a")
    end_task(engine, NOBODY, claimed(engine), error="too hot")
    assert claim_task(engine, "pi") is None
    submit(engine, "a")
    task = find_task(engine, claimed(engine).id)
    assert task is not None
    assert (task.status, task.error) == ("claimed", None)


def test_of_many_claims_at_once_each_gets_another_task(engine: Engine) -> None:
    ids = {submit(engine, str(number)) for number in range(20)}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: claim_task(engine, "pi"), range(40)))
    assert sorted(task.id for task in found if task is not None) == sorted(ids)


def test_a_lease_that_has_run_out_lets_another_claim(engine: Engine) -> None:
    submit(engine, "a")
    first = claimed(engine)
    assert claim_task(engine, "pi") is None
    expire(engine)
    note_progress(engine, first, PROGRESS)  # late, but nobody has claimed it
    assert claim_task(engine, "pi") is None
    expire(engine)
    second = claimed(engine)
    assert second == Claim(first.id, 2)
    for late in (
        lambda: note_progress(engine, first, PROGRESS),
        lambda: end_task(engine, NOBODY, first, result=RESULT),
        lambda: end_task(engine, NOBODY, first, error="late"),
    ):
        with pytest.raises(LostError):
            late()
    end_task(engine, NOBODY, second, result=RESULT)


def test_an_agent_begun_anew_goes_on_with_what_it_was_at(engine: Engine) -> None:
    submit(engine, "older")
    first = claimed(engine)
    submit(engine, "a")
    assert claimed(engine, first) == Claim(first.id, 2)
    assert claimed(engine, first).id != first.id  # it holds another claim by now


def test_the_same_end_may_be_told_twice(engine: Engine) -> None:
    submit(engine, "a")
    claim = claimed(engine)
    end_task(engine, NOBODY, claim, result=RESULT)
    end_task(engine, NOBODY, claim, error="told again, otherwise")
    task = find_task(engine, claim.id)
    assert task is not None
    assert (task.status, task.error) == ("done", None)


def test_what_ends_every_agent_is_given_up(engine: Engine) -> None:
    submit(engine, "a")
    claim = None
    for _ in range(MOST_CLAIMS):
        claim = claimed(engine, claim)
    assert claim_task(engine, "pi", claim) is None
    task = find_task(engine, claim.id)
    assert task is not None
    assert (task.status, task.error) == (
        "failed", "20 times the device's agent began and did not end it",
    )  # fmt: skip


def test_a_search_that_has_ended_takes_its_tasks_along(engine: Engine, tmp_path: Path) -> None:
    submit(engine, "a", "ended")
    submit(engine, "b", "other")
    claim = claimed(engine)
    folder = task_folder(tmp_path, claim.id)
    folder.mkdir(parents=True)
    forget_tasks(engine, tmp_path, "ended")
    assert not folder.exists()
    with pytest.raises(LostError):
        note_progress(engine, claim, PROGRESS)
    assert claimed(engine).id == id_of_task("b")


moves = st.lists(
    st.tuples(st.sampled_from(["claim", "tell", "end", "expire"]), st.integers(0, 1)), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(moves)
def test_at_any_time_at_most_one_agent_is_heard(
    engine: Engine, played: list[tuple[str, int]]
) -> None:
    clear(engine)
    submit(engine, "a")
    claims: list[Claim | None] = [None, None]
    holder: int | None = None
    leased = ended = False
    for move, agent in played:
        claim = claims[agent]
        if move == "expire":
            expire(engine)
            leased = False
        elif move == "claim":
            found = claim_task(engine, "pi")
            assert (found is not None) == (not ended and not leased)
            if found is not None:
                claims[agent] = Claim(found.id, found.attempts)
                holder, leased = agent, True
        elif claim is not None:
            try:
                if move == "tell":
                    note_progress(engine, claim, PROGRESS)
                    leased = True
                else:
                    end_task(engine, NOBODY, claim, result=RESULT)
                    ended = True
                heard = True
            except LostError:
                heard = False
            assert heard == (agent == holder and (move == "end" or not ended))


# ---- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
def pi(client: TestClient, service: Service) -> Callable[..., str]:
    """Registers a device; what it returns submits tasks."""
    client.put("/v1/targets/pi", json={"target": TARGET.to_dict()})
    return lambda name="a": submit(service.engine, name)


def test_a_task_is_claimed_told_of_and_ended(
    client: TestClient, service: Service, pi: Callable[..., str]
) -> None:
    assert client.post("/v1/targets/pi/tasks:claim", json={"wait_s": 0}).status_code == 204
    task = pi()
    got = client.post("/v1/targets/pi/tasks:claim", json={"wait_s": 0}).json()
    assert (got["id"], got["attempt"], got["kind"]) == (task, 1, "time")
    assert TimeAsked.from_dict(got["request"]) == ASKED
    seen = find_target(service.engine, "pi")
    assert seen is not None
    assert seen.last_seen is not None
    place = f"/v1/tasks/{task}"
    told = client.post(f"{place}:progress", json={"attempt": 1, "progress": {"share": 0.5}})
    assert told.status_code == 204
    assert client.get(place).json()["progress"]["share"] == 0.5
    for attempt, status in ((2, 409), (1, 204), (1, 204), (2, 409)):
        body = {"attempt": attempt, "result": RESULT}
        assert client.post(f"{place}:complete", json=body).status_code == status
    assert client.get(place).json()["status"] == "done"


def test_a_claim_waits_for_a_task(client: TestClient, pi: Callable[..., str]) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(client.post, "/v1/targets/pi/tasks:claim", json={"wait_s": 30})
        task = pi()
        assert asked.result().json()["id"] == task


@pytest.mark.parametrize(
    "result",
    [None, [], RESULT * 2, [{"p50_ms": 1}], [RESULT[0] | {"p50_ms": -1}], [RESULT[0] | {"x": 1}]],
)
def test_a_result_that_answers_something_else_is_refused(
    client: TestClient, pi: Callable[..., str], result: object
) -> None:
    task = pi()
    client.post("/v1/targets/pi/tasks:claim", json={"wait_s": 0})
    body = {"attempt": 1, "result": result}
    assert client.post(f"/v1/tasks/{task}:complete", json=body).status_code == 422
    failed = {"attempt": 1, "error": "nothing was taken"}
    assert client.post(f"/v1/tasks/{task}:fail", json=failed).status_code == 204
    assert client.get(f"/v1/tasks/{task}").json()["error"] == "nothing was taken"


def test_files_are_for_the_devices_agent_alone(
    client: TestClient, service: Service, pi: Callable[..., str]
) -> None:
    task = pi()
    folder = task_folder(service.settings.data, task)
    folder.mkdir(parents=True)
    (folder / "0.onnx").write_bytes(b"weights")
    (folder / "secret").write_bytes(b"else")
    place = f"/v1/tasks/{task}/files"
    assert client.get(f"{place}/0.onnx").content == b"weights"
    assert client.get(f"{place}/1.onnx").status_code == 404
    for name in ("secret", "..%2f0.onnx", "%2e%2e%2f%2e%2e%2fservice.db", "0.onnx%00"):
        assert client.get(f"{place}/{name}").status_code in (404, 422)
    app = create_app(service)
    for owner, scope, status in (
        ("bob", "device", 403),
        ("ada", "read", 403),
        ("ada", "device", 200),
    ):
        _, token = create_token(service.engine, owner, [scope])
        as_them = TestClient(app, headers={"Authorization": f"Bearer {token}"})
        assert as_them.get(f"{place}/0.onnx").status_code == status


def test_a_device_that_is_removed_has_no_tasks(
    client: TestClient, service: Service, pi: Callable[..., str]
) -> None:
    task = pi()
    client.delete("/v1/targets/pi")
    assert client.get(f"/v1/tasks/{task}").status_code == 404
    assert client.post("/v1/targets/pi/tasks:claim", json={"wait_s": 0}).status_code == 404
    with service.engine.connect() as connection:
        assert connection.execute(sa.select(tasks)).all() == []
