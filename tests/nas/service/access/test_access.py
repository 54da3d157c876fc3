"""Who sees what: everybody everything, or in a private service what is theirs or shared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from latency.asked import TimeAsked
from latency.profile import Profile
from nas.service.access.tokens import create_token
from nas.service.access.visibility import readers_of, share
from nas.service.api.app import create_app
from nas.service.database.tables import shares, targets
from nas.service.devices.targets import find_target, register_target, remove_target, store_profile
from nas.service.devices.tasks import submit_task
from nas.service.jobs.job import Job
from nas.service.jobs.reporting import ReportingDisplay
from nas.service.jobs.stages import build_pipeline
from nas.service.searches.lifecycle import create, find, remove
from nas.service.searches.requests import NewSearch
from nas.service.service import Service
from nas.service.uploads.kept import keep_upload
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError
from tests.latency.conftest import made_profile
from tests.nas.service.populated import UPLOADS
from tests.nas.service.seeded import finished_search

DATA = b"text,label\n" + b"Well made and it lasts.,good\nIt broke at once.,bad\n" * 6
KINDS = ("search", "dataset", "target")
SHAPE = {
    "hidden_size": 192,
    "layers": [{"num_heads": 6, "qkv_size": 192, "intermediate_size": 384}],
}


@dataclass
class Town:
    """A service of ada, who owns one of each, of bob, and of an administrator."""

    service: Service
    clients: dict[str, TestClient]
    search: str

    def place(self, kind: str) -> str:
        return {
            "search": f"/v1/searches/{self.search}",
            "dataset": "/v1/datasets/reviews",
            "target": "/v1/targets/pi",
        }[kind]

    def sees(self, who: str, kind: str) -> bool:
        """Whether all ways of seeing a thing agree that somebody does."""
        client, place = self.clients[who], self.place(kind)
        listed = client.get(place.rpartition("/")[0]).json()["items"]
        name = place.rpartition("/")[2]
        answers = [client.get(place).status_code == 200]
        answers.append(any(name in (one.get("id"), one.get("name")) for one in listed))
        catalog = client.get("/v1/catalog").json()
        query = {"search": self.search, "budget": "1000ms"}
        if kind == "search":
            below = ("models", "models/0", "models/0/front", "models/0/report.json")
            below += ("models/0/report.html", "models/0/archive", "events", "forecast")
            answers += [client.get(f"{place}/{one}").status_code == 200 for one in below]
            answered = client.post("/v1/architectures:query", json=query)
            answers.append(answered.status_code == 200)
        elif kind == "dataset":
            answers.append(name in catalog["datasets"])
            asked = {"budgets": ["4x"], "recipe": "quick", "data": name}
            made = client.post("/v1/searches", json=asked)
            answers.append(made.status_code == 201)
        else:
            answers.append(name in {one["name"] for one in catalog["targets"]})
            answers.append(client.get(f"{place}/profile").status_code == 200)
            predicted = client.post(f"{place}:predict", json={"architectures": [SHAPE]})
            answers.append(predicted.status_code == 200)
            asked = {"budgets": ["4x"], "recipe": "quick", "targets": [name]}
            answers.append(client.post("/v1/searches", json=asked).status_code == 201)
        assert len(set(answers)) == 1, (who, kind, answers)
        return answers[0]


def keep_reviews(service: Service) -> None:
    """Put a data set of ada's into a service, as an upload that was checked is put."""
    kept = service.folder("uploads") / "reviews"
    kept.mkdir()
    given = {
        "owner": "ada",
        "digest": hashlib.sha256(DATA).hexdigest(),
        "about": UPLOADS["dataset"],
    }
    assert keep_upload(service, "dataset", "reviews", kept, **given)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return made_profile()


@pytest.fixture
def town(profile: Profile, make_service: Callable[..., Service]) -> Callable[..., Town]:
    def build(**settings: object) -> Town:
        service = make_service(auth="required", **settings)
        app = create_app(service)
        clients = {}
        scopes = {"ada": ["read", "submit", "device"], "bob": ["read", "submit"], "eve": ["admin"]}
        for owner, own in scopes.items():
            _, token = create_token(service.engine, owner, own)
            clients[owner] = TestClient(app, headers={"Authorization": f"Bearer {token}"})
        search = finished_search(service, ("4x",), owner="ada")["id"]
        keep_reviews(service)
        register_target(service.engine, service.settings.data, "pi", "ada", profile.target, most=9)
        known = find_target(service.engine, "pi")
        assert known is not None
        store_profile(service.engine, service.settings.data, known, profile)
        return Town(service, clients, search)

    return build


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_reads_sees_all_by_default(town, kind):
    open_town = town()
    assert all(open_town.sees(who, kind) for who in ("ada", "bob", "eve"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_private_service_shows_what_is_ones_own_or_shared(town, kind):
    private = town(private=True)
    place = private.place(kind)
    assert [private.sees(who, kind) for who in ("ada", "bob", "eve")] == [True, False, True]
    for readers, seen in ((["bob"], True), (["carol"], False), (["*"], True), ([], False)):
        answer = private.clients["ada"].patch(place, json={"shared_with": readers})
        assert answer.status_code == 200, answer.text
        assert answer.json()["shared_with"] == readers
        assert private.sees("bob", kind) is seen


@pytest.mark.parametrize("kind", KINDS)
def test_only_its_owner_or_an_administrator_shares_a_thing(town, kind):
    private = town(private=True)
    place, body = private.place(kind), {"shared_with": ["bob"]}
    assert private.clients["bob"].patch(place, json=body).status_code == 404  # he sees none
    assert private.clients["ada"].patch(place, json=body).status_code == 200
    assert private.clients["bob"].patch(place, json={"shared_with": []}).status_code == 403
    assert private.clients["bob"].delete(place).status_code == 403
    assert private.clients["eve"].patch(place, json={"shared_with": []}).status_code == 200
    assert private.clients["bob"].delete(place).status_code == 404


def test_a_retry_reads_nothing_that_its_owner_may_not_see(town):
    private = town(private=True)
    ada, bob = private.clients["ada"], private.clients["bob"]
    ada.patch("/v1/datasets/reviews", json={"shared_with": ["bob"]})
    asked = {"budgets": ["4x"], "recipe": "quick", "data": "reviews"}
    search = bob.post("/v1/searches", json=asked).json()["id"]
    blocked = ada.delete("/v1/datasets/reviews")
    assert blocked.status_code == 409
    assert search not in blocked.text  # which is bob's alone
    assert bob.post(f"/v1/searches/{search}:cancel").status_code == 200
    assert ada.delete("/v1/datasets/reviews").status_code == 204
    keep_reviews(private.service)
    for client in (bob, private.clients["eve"]):
        refused = client.post(f"/v1/searches/{search}:retry")
        assert refused.status_code == 422
        assert "data: 'reviews' is unknown" in refused.json()["detail"]
    ada.patch("/v1/datasets/reviews", json={"shared_with": ["bob"]})
    assert bob.post(f"/v1/searches/{search}:retry").status_code == 200


def test_a_job_measures_on_no_device_that_its_owner_may_not_see(town, tmp_path):
    private = town(private=True)
    bob = private.clients["bob"]
    private.clients["ada"].patch("/v1/targets/pi", json={"shared_with": ["bob"]})
    asked = {"budgets": ["4x"], "recipe": "quick", "targets": ["pi"]}
    search = bob.post("/v1/searches", json=asked).json()
    of_admin = private.clients["eve"].post("/v1/searches", json=asked).json()
    private.clients["ada"].patch("/v1/targets/pi", json={"shared_with": []})

    def places(search: dict[str, Any]) -> None:
        """Where its models would be measured."""
        settings = private.service.settings.model_dump_json()
        job = Job(search["id"], 1, search["request"], settings, str(tmp_path / "scratch"))
        build_pipeline(private.service, job, ReportingDisplay(lambda *_: None, tmp_path))

    places(search)  # what is under way goes on
    places(of_admin)
    service, known = private.service, find_target(private.service.engine, "pi")
    assert known is not None
    remove_target(service.engine, service.settings.data, known)
    register_target(service.engine, service.settings.data, "pi", "ada", known.target, most=9)
    with pytest.raises(NasError, match="targets: 'pi' has gone"):
        places(search)


def test_an_administrator_tries_a_search_on_others_things_again(town):
    private = town(private=True)
    asked = {"budgets": ["4x"], "recipe": "quick", "targets": ["pi"], "data": "reviews"}
    search = private.clients["eve"].post("/v1/searches", json=asked).json()["id"]
    assert private.clients["eve"].post(f"/v1/searches/{search}:cancel").status_code == 200
    assert private.clients["eve"].post(f"/v1/searches/{search}:retry").status_code == 200


def test_a_share_of_what_has_just_gone_is_none_of_what_comes_next(town):
    private = town(private=True)
    assert not share(private.service.engine, "dataset", "lost", "ada", ["bob"])
    assert not share(private.service.engine, "dataset", "reviews", "bob", ["bob"])
    with private.service.engine.begin() as connection:  # left by an older version, say
        connection.execute(shares.insert().values(kind="dataset", name="mine", reader="bob"))
    kept = private.service.folder("uploads") / "mine"
    kept.mkdir()
    keep_upload(private.service, "dataset", "mine", kept, owner="ada", digest="0", about={})
    assert readers_of(private.service.engine, "dataset", ["mine"]) == {}


def test_no_other_route_tells_of_what_one_does_not_see(town):
    private = town(private=True)
    _, token = create_token(private.service.engine, "bob", ["device"])
    device = {"Authorization": f"Bearer {token}"}
    claim = {"wait_s": 0, "resume": None}
    bob = private.clients["bob"]
    for name in ("pi", "never"):
        refused = bob.post(f"/v1/targets/{name}/tasks:claim", json=claim, headers=device)
        assert refused.status_code == 404
        assert "ada" not in refused.text
    asked = TimeAsked(
        target=made_profile().target,
        shape=EncoderShape(),
        models=(Architecture.from_dict(SHAPE),),
        rounds=5,
    )
    submit_task(
        private.service.engine, 32 * "0", target="pi", search_id=private.search, kind="time",
        request=asked.to_dict(),
    )  # fmt: skip
    assert bob.get(f"/v1/tasks/{32 * '0'}").status_code == 404
    assert private.clients["ada"].get(f"/v1/tasks/{32 * '0'}").status_code == 200
    query = {"search": private.search, "budget": "1000ms"}
    ada = private.clients["ada"]
    assert ada.post("/v1/architectures:query", json=query).status_code == 200  # and remembered
    remove(private.service.engine, find(private.service.engine, private.search))
    assert bob.post("/v1/architectures:query", json=query).status_code == 404


def test_an_event_stream_ends_with_the_share_that_it_was_opened_by(town, listen):
    private = town(private=True)
    search = create(private.service, "ada", NewSearch(budgets=("4x",)), None)[0].id
    ada = private.clients["ada"]
    ada.patch(f"/v1/searches/{search}", json={"shared_with": ["bob"]})
    host, port = listen(create_app(private.service), private.service)
    headers = dict(private.clients["bob"].headers)
    url = f"http://{host}:{port}/v1/searches/{search}/events"
    with httpx2.stream("GET", url, headers=headers, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines)
        ada.patch(f"/v1/searches/{search}", json={"shared_with": []})
        for _ in lines:  # until the service closes it
            pass
    assert httpx2.get(url, headers=headers).status_code == 404


def test_what_goes_takes_its_shares_along(town):
    private = town(private=True)
    ada, bob = private.clients["ada"], private.clients["bob"]
    for kind in KINDS:
        ada.patch(private.place(kind), json={"shared_with": ["bob"]})
    assert ada.delete("/v1/datasets/reviews").status_code == 204
    keep_reviews(private.service)
    assert bob.get("/v1/datasets/reviews").status_code == 404
    known = find_target(private.service.engine, "pi")
    assert known is not None
    remove_target(private.service.engine, private.service.settings.data, known)
    register_target(
        private.service.engine, private.service.settings.data, "pi", "ada", known.target, most=9
    )
    assert bob.get("/v1/targets/pi").status_code == 404


def test_another_upload_of_a_name_that_is_not_seen_is_refused_without_telling_of_it(town):
    private = town(private=True)
    answer = private.clients["bob"].put("/v1/datasets/reviews?filename=a.csv", content=DATA)
    assert answer.status_code == 409
    assert "ada" not in answer.text


@pytest.mark.parametrize("private", [True, False])
def test_metrics_name_no_device_of_a_private_service(town, private):
    built = town(private=private)
    with built.service.engine.begin() as connection:
        connection.execute(targets.update().values(last_seen=1.0))
    assert ('target="pi"' in built.clients["bob"].get("/metrics").text) is not private


@pytest.mark.parametrize("readers", [["Ada"], ["a b"], ["**"], "bob", [""], ["bob"] * 101])
def test_readers_are_names_of_users(town, readers):
    private = town(private=True)
    answer = private.clients["ada"].patch(private.place("search"), json={"shared_with": readers})
    assert answer.status_code == 422
