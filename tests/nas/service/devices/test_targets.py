"""Devices over HTTP: registered, profiled, asked for predictions; whose they are."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latency.asked import TimeAsked
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.target import Target, Workload
from nas.service.access.tokens import create_token
from nas.service.api.app import create_app
from nas.service.devices.targets import (
    ChangedError,
    DeviceTarget,
    find_target,
    kept_profile,
    store_profile,
)
from nas.service.devices.tasks import id_of_task, submit_task
from nas.service.service import Service
from supernet.architecture import Architecture
from supernet.configs import config_names, load_space
from supernet.errors import NasError
from tests.latency.conftest import MakeProfile, make_profile  # noqa: F401 - a fixture
from tests.nas.service.databases import on_both
from tests.nas.service.seeded import finished_search

AS = Callable[..., TestClient]
TARGET = {"threads": 1, "batch_size": 1, "sequence_length": 64}


@pytest.fixture
def as_user(service: Service) -> Iterator[AS]:
    """Clients with tokens of users and scopes."""
    app = create_app(service)

    def user(owner: str, *scopes: str) -> TestClient:
        _, token = create_token(service.engine, owner, scopes)
        return TestClient(app, headers={"Authorization": f"Bearer {token}"})

    return user


JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def profile(make_profile) -> Profile:  # noqa: F811
    return make_profile()


@pytest.fixture
def pi(client: TestClient) -> str:
    assert client.put("/v1/targets/pi", json={"target": TARGET}).status_code == 201
    return "/v1/targets/pi"


@on_both
def test_a_user_has_so_many_targets(make_service: Callable[..., Service]) -> None:
    service = make_service(limits={"targets_per_user": 1})
    with TestClient(create_app(service)) as client:
        assert client.put("/v1/targets/pi", json={"target": TARGET}).status_code == 201
        assert client.put("/v1/targets/pi", json={"target": TARGET}).status_code == 200
        refused = client.put("/v1/targets/board", json={"target": TARGET})
        assert refused.status_code == 409
        assert refused.json()["detail"] == "at most 1 targets of one user are kept: delete one"
        assert client.get("/v1/targets/board").status_code == 404


@on_both
def test_a_target_is_registered_shown_changed_and_removed(client: TestClient) -> None:
    given = {"target": TARGET, "agent": {"version": "0.1.0"}}
    made = client.put("/v1/targets/pi", json=given)
    assert made.status_code == 201
    assert made.json()["target"]["runtime"] == "onnxruntime"
    assert made.json()["owner"] == "ada"
    assert made.json()["last_seen"] is not None
    assert client.get("/v1/targets/pi").json() == made.json()
    changed = client.put("/v1/targets/pi", json={"target": TARGET | {"threads": 4}})
    assert (changed.status_code, changed.json()["target"]["threads"]) == (200, 4)
    assert changed.json()["agent"] == {"version": "0.1.0"}  # what is known stays
    assert client.delete("/v1/targets/pi").status_code == 204
    assert client.get("/v1/targets/pi").status_code == 404


@on_both
def test_targets_are_listed_in_pages(client: TestClient) -> None:
    for number in range(5):
        client.put(f"/v1/targets/pi-{number}", json={"target": TARGET})
    names, cursor = [], ""
    while cursor is not None:
        page = client.get(f"/v1/targets?limit=2{cursor}").json()
        names += [one["name"] for one in page["items"]]
        cursor = page["next"] and f"&cursor={page['next']}"
    assert names == [f"pi-{number}" for number in reversed(range(5))]


@pytest.mark.parametrize(
    "name", ["%2e%2e", "..%2fx", "a%2f..%2fb", "A", "-a", "a" * 64, "a%00", "a%0a", "a:b", "ü"]
)
def test_a_name_is_no_path(client: TestClient, service: Service, name: str) -> None:
    answer = client.put(f"/v1/targets/{name}", json={"target": TARGET})
    assert answer.status_code in (404, 405, 422)
    assert client.get("/v1/targets").json()["items"] == []


@pytest.mark.parametrize("name", config_names("targets"))
def test_the_servers_own_names_are_taken(client: TestClient, name: str) -> None:
    answer = client.put(f"/v1/targets/{name}", json={"target": TARGET})
    assert answer.status_code == 409
    assert answer.json()["detail"] == f"target {name} is the server's own: choose another name"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"runtime": "torch-eager"}, "agents measure runtime onnxruntime on device cpu"),
        ({"device": "cuda"}, "not onnxruntime on cuda"),
        ({"threads": 0}, "threads"),
        ({"threads": 10**9}, "threads must be a whole number of at least 1 and at most 1024, not"),
        ({"batch_size": 4097}, "batch_size must be"),
        ({"lengths": {"10000": 1}}, "lengths: a length must be"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_what_agents_do_not_measure_is_refused(
    client: TestClient, change: dict[str, Any], says: str
) -> None:
    answer = client.put("/v1/targets/pi", json={"target": TARGET | change})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


@on_both
def test_a_target_belongs_to_who_registered_it(as_user: AS, pi: str) -> None:
    bob, carol = as_user("bob", "device", "submit"), as_user("carol", "admin")
    assert bob.get(pi).status_code == 403  # these scopes do not read
    assert bob.put(pi, json={"target": TARGET}).status_code == 409
    assert bob.delete(pi).status_code == 403
    assert bob.put(f"{pi}/profile", headers=JSON, content=b"{}").status_code == 403
    assert bob.post(f"{pi}/tasks:claim", json={"wait_s": 0}).status_code == 403
    assert carol.put(pi, json={"target": TARGET}).status_code == 200
    assert carol.get(pi).json()["owner"] == "ada"
    assert carol.delete(pi).status_code == 204


def test_reading_registers_nothing(as_user: AS) -> None:
    reader = as_user("bob", "read")
    answer = reader.put("/v1/targets/pi", json={"target": TARGET})
    assert answer.status_code == 403
    assert "device or submit" in answer.json()["detail"]
    assert TestClient(reader.app).get("/v1/targets").status_code == 401


def test_a_profile_predicts_as_it_does_at_home(
    client: TestClient, pi: str, profile: Profile
) -> None:
    wanted = {"architectures": [load_space("minilm").smallest.to_dict()]}
    assert client.post(f"{pi}:predict", json=wanted).status_code == 409
    assert client.get(f"{pi}/profile").status_code == 404
    predictor = LatencyPredictor(profile).fit()

    record = client.put(f"{pi}/profile", headers=JSON, content=json.dumps(profile.to_dict()))
    assert record.status_code == 200
    card = record.json()["profile"]
    assert card["errors"]["mape_percent"] == pytest.approx(predictor.errors().mape_percent)
    kept = client.get(f"{pi}/profile")
    assert Profile.from_dict(kept.json()) == profile
    assert kept.headers["etag"] == f'"{card["sha256"]}"'
    probed = client.head(f"{pi}/profile")
    assert (probed.status_code, probed.content) == (200, b"")
    assert probed.headers["content-length"] == kept.headers["content-length"]

    found = client.post(f"{pi}:predict", json=wanted | {"confidence": 0.9}).json()
    (one,) = found["architectures"]
    smallest = [load_space("minilm").smallest]
    assert one["latency_ms"] == pytest.approx(predictor.predict(smallest)[0])
    assert one["upper_ms"] == pytest.approx(predictor.predict_upper(smallest, 0.9)[0])


def test_predictions_are_for_the_targets_own_workload(
    client: TestClient,
    service: Service,
    make_profile: MakeProfile,  # noqa: F811
) -> None:
    client.put("/v1/targets/pi", json={"target": TARGET | {"sequence_length": 128}})
    grid = make_profile(workloads=(Workload(1, 32), Workload(1, 128)))
    sent = client.put("/v1/targets/pi/profile", headers=JSON, content=json.dumps(grid.to_dict()))
    assert sent.status_code == 200
    search_id = finished_search(service)["id"]
    asked = {"search": search_id, "budget": "1000ms", "target": "pi"}
    best = client.post("/v1/architectures:query", json=asked).json()

    architecture = Architecture.from_dict(best["architecture"])
    predictor = LatencyPredictor(grid).fit()
    (expected,) = predictor.predict(
        [architecture],
        best["percentile"],
        target=Target.from_dict(TARGET | {"sequence_length": 128}),
    )
    assert best["latency_ms"] == pytest.approx(expected)
    wanted = {"architectures": [best["architecture"]], "percentile": best["percentile"]}
    (one,) = client.post("/v1/targets/pi:predict", json=wanted).json()["architectures"]
    assert one["latency_ms"] == pytest.approx(expected)


def test_any_architecture_that_is_accepted_is_predicted(
    client: TestClient,
    pi: str,
    make_profile: MakeProfile,  # noqa: F811
) -> None:
    profile = make_profile(space="minilm-factored")
    sent = client.put(f"{pi}/profile", headers=JSON, content=json.dumps(profile.to_dict()))
    assert sent.status_code == 200
    layer = {"num_heads": 1, "qkv_size": 65536, "intermediate_size": 65536, "compression": 65536}
    large = {"hidden_size": 65536, "layers": [layer]}
    sizes = range(1000, 1400)  # a table of them all would take gigabytes
    many = [
        {
            "hidden_size": size,
            "layers": [
                {"num_heads": 1, "qkv_size": size + 1, "intermediate_size": size, "compression": 2}
            ],
        }
        for size in sizes
    ]
    answer = client.post(f"{pi}:predict", json={"architectures": [large, *many]})
    assert answer.status_code == 200, answer.text
    assert all(one["latency_ms"] > 0 for one in answer.json()["architectures"])


def test_what_cannot_be_predicted_is_said(client: TestClient, pi: str, profile: Profile) -> None:
    client.put(f"{pi}/profile", headers=JSON, content=json.dumps(profile.to_dict()))
    sound = {"architectures": [load_space("minilm").smallest.to_dict()]}
    for wanted, says in (
        ({"percentile": 75}, "percentile: Input should be 50 or 95"),
        ({"confidence": 0.999}, "confidence must be"),
        ({"architectures": []}, "architectures"),
        ({"architectures": [{"hidden_size": 10**30, "layers": []}]}, "hidden_size"),
    ):
        answer = client.post(f"{pi}:predict", json=sound | wanted)
        assert answer.status_code == 422
        assert says in answer.json()["detail"]


@on_both
def test_another_profile_or_target_replaces_the_one_before(
    service: Service, client: TestClient, pi: str, profile: Profile
) -> None:
    folder = service.settings.data / "profiles"
    for seed in (1, 2):
        other = replace(profile, seed=seed)
        client.put(f"{pi}/profile", headers=JSON, content=json.dumps(other.to_dict()))
        assert len(list(folder.iterdir())) == 1
    client.put(pi, json={"target": TARGET | {"threads": 2}})
    assert client.get(pi).json()["profile"] is None
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a latency profile"),
        ('{"format": "tailorbert-latency-profile", "version": 2}', "version 2"),
        ("\udcff".encode("utf-8", "surrogateescape"), "not valid JSON"),
    ],
)
def test_what_is_no_profile_is_refused(
    client: TestClient, service: Service, pi: str, content: str | bytes, says: str
) -> None:
    answer = client.put(f"{pi}/profile", headers=JSON, content=content)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert not list(service.folder("profiles").iterdir())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"complete": False}, "not complete"),
        ({"target": TARGET | {"threads": 3}}, "the profile is of threads 3"),
        ({"workloads": [[1, 32]]}, "the target asks for batch 1, sequence 64"),
        ({"measurements": []}, "measurements are not steady"),
    ],
)
def test_a_profile_that_does_not_serve_the_target_is_refused(
    client: TestClient, pi: str, profile: Profile, change: dict[str, Any], says: str
) -> None:
    answer = client.put(
        f"{pi}/profile", headers=JSON, content=json.dumps(profile.to_dict() | change)
    )
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_a_profile_of_another_machine_is_refused(
    client: TestClient, pi: str, profile: Profile
) -> None:
    fingerprint = profile.fingerprint.to_dict() | {"cpu": "Cortex-A72"}
    client.put(pi, json={"target": TARGET, "fingerprint": fingerprint})
    answer = client.put(f"{pi}/profile", headers=JSON, content=json.dumps(profile.to_dict()))
    assert answer.status_code == 422
    assert "cpu: Cortex-A72, not" in answer.json()["detail"]


@on_both
def test_a_profile_and_its_row_never_part(
    service: Service, client: TestClient, pi: str, profile: Profile
) -> None:
    folder = service.settings.data / "profiles"

    def read() -> DeviceTarget:
        known = find_target(service.engine, "pi")
        assert known is not None
        return known

    def store(known: DeviceTarget, one: Profile) -> str:
        return store_profile(service.engine, service.settings.data, known, one)

    before = read()
    digest = store(before, profile)
    for late in (profile, replace(profile, seed=1)):  # read before another was first
        with pytest.raises(ChangedError, match="try again"):
            store(before, late)
    assert Profile.load(kept_profile(service.settings.data, read())) == profile
    assert [one.name for one in folder.iterdir()] == [f"pi-{digest}.json"]

    first = {"target": TARGET, "fingerprint": profile.fingerprint.to_dict()}
    unknown = read()
    client.put(pi, json=first)
    assert client.get(pi).json()["profile"] is not None  # it is this machine's
    with pytest.raises(ChangedError):
        store(unknown, replace(profile, seed=1))
    assert Profile.load(kept_profile(service.settings.data, read())) == profile

    moved = profile.fingerprint.to_dict() | {"cpu": "Cortex-A72"}
    client.put(pi, json=first | {"fingerprint": moved})
    assert client.get(pi).json()["profile"] is None
    assert list(folder.iterdir()) == []


@on_both
def test_what_was_asked_of_another_machine_fails(
    service: Service, client: TestClient, pi: str, profile: Profile
) -> None:
    first = {"target": TARGET, "fingerprint": profile.fingerprint.to_dict()}
    client.put(pi, json=first)
    asked = TimeAsked(target=profile.target, shape=profile.shape, models=(), rounds=5)
    for number in range(2):
        submit_task(
            service.engine,
            id_of_task(number),
            target="pi",
            search_id="s1",
            kind="time",
            request=asked.to_dict(),
        )
    claimed = client.post(f"{pi}/tasks:claim", json={"wait_s": 0}).json()
    client.put(pi, json=first)  # the same agent, begun anew
    assert client.get(f"/v1/tasks/{claimed['id']}").json()["status"] == "claimed"
    moved = profile.fingerprint.to_dict() | {"cpu": "Cortex-A72"}
    client.put(pi, json={"target": TARGET, "fingerprint": moved})
    for number in range(2):
        task = client.get(f"/v1/tasks/{id_of_task(number)}").json()
        assert task["status"] == "failed"
        assert "another machine" in task["error"]
    late = {"attempt": claimed["attempt"], "progress": {"share": 0.5}}
    assert client.post(f"/v1/tasks/{claimed['id']}:progress", json=late).status_code == 409


def test_too_large_a_profile_is_refused_before_it_has_come(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(limits={"profile_bytes": 4096})
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1024
            yield b" " * 1024

    with TestClient(create_app(service)) as client:
        client.put("/v1/targets/pi", json={"target": TARGET})
        answer = client.put("/v1/targets/pi/profile", headers=JSON, content=endless())
    assert answer.status_code == 413
    assert "4096" in answer.json()["detail"]


junk = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([])
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_in_a_profile_it_is_kept_or_refused_in_words(
    service: Service, client: TestClient, pi: str, profile: Profile, data: st.DataObject
) -> None:
    damaged = copy.deepcopy(profile.to_dict())
    place: Any = damaged
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not (isinstance(inner, dict | list | tuple) and inner) or data.draw(st.booleans()):
            break
        if isinstance(inner, tuple):
            inner = place[key] = list(inner)
        place = inner
    place[key] = data.draw(junk)
    known = find_target(service.engine, "pi")
    assert known is not None
    try:
        store_profile(service.engine, service.settings.data, known, Profile.from_dict(damaged))
    except NasError:
        return
    again = find_target(service.engine, "pi")
    assert again is not None
    assert kept_profile(service.settings.data, again) is not None
    json.dumps(again.errors, allow_nan=False)
