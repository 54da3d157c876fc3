"""Searches over HTTP: made once, moved from status to status, listed in pages, followed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest
from fastapi.testclient import TestClient

from nas.pipeline import pipeline
from nas.service.access.tokens import create_token, revoke_token
from nas.service.api import auth
from nas.service.api.app import create_app
from nas.service.conflicts import ConflictError
from nas.service.devices.tasks import find_task, submit_task
from nas.service.searches import broadcast, events, lifecycle, requests
from nas.service.searches.requests import NewSearch
from nas.tasks.kinds import METRICS
from tests.nas.service.databases import on_both
from tests.nas.service.live import wait_for

TUNING = {"epochs": 1, "learning_rate": 1e-4}
STAGE = {
    "name": "tune",
    "training": {"epochs": 1, "learning_rate": 1e-4},
    "losses": {"hard": 1.0},
}
WANTED = {"budgets": ["4x"], "recipe": "quick", "space": "tiny"}


def submit(client, **changed) -> dict:
    answer = client.post("/v1/searches", json=WANTED | changed)
    assert answer.status_code == 201, answer.text
    return answer.json()


def other_user(service, *scopes) -> TestClient:
    _, token = create_token(service.engine, "grace", scopes)
    return TestClient(create_app(service), headers={"Authorization": f"Bearer {token}"})


@on_both
def test_a_new_search_is_queued_for_a_worker(client, service):
    answer = client.post("/v1/searches", json=WANTED)
    found = answer.json()
    assert answer.headers["location"] == f"/v1/searches/{found['id']}"
    assert (found["status"], found["owner"], found["attempt"]) == ("queued", "ada", 1)
    assert found["request"]["targets"] == ["cpu"]
    assert service.jobs.waiting == [(found["id"], 1)]
    assert client.get(f"/v1/searches/{found['id']}").json() == found


@on_both
def test_a_user_has_so_many_searches_under_way(make_service):
    service = make_service(limits={"searches_per_user": 2})
    headers = {"Idempotency-Key": "k1"}
    with TestClient(create_app(service)) as client:
        first = client.post("/v1/searches", json=WANTED, headers=headers).json()
        second = submit(client)
        refused = client.post("/v1/searches", json=WANTED)
        assert refused.status_code == 409
        assert "at most 2 searches of one user may wait or run" in refused.json()["detail"]
        assert client.post("/v1/searches", json=WANTED, headers=headers).json() == first
        assert client.post(f"/v1/searches/{first['id']}:cancel").status_code == 200
        submit(client)
        refused = client.post(f"/v1/searches/{first['id']}:retry")
        assert refused.status_code == 409
        assert "at most 2 searches" in refused.json()["detail"]
        assert client.get(f"/v1/searches/{first['id']}").json()["attempt"] == 1
        assert client.post(f"/v1/searches/{second['id']}:cancel").status_code == 200
        assert client.post(f"/v1/searches/{first['id']}:retry").json()["attempt"] == 2
    assert len(service.jobs.waiting) == 2


@on_both
def test_requests_at_once_make_no_more_than_that(make_service):
    service = make_service(limits={"searches_per_user": 2})
    wanted = requests.NewSearch.model_validate(WANTED)

    def create(_: int) -> bool:
        try:
            lifecycle.create(service, "ada", wanted, None)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(16))) == 2
    assert len(lifecycle.under_way(service.engine)) == 2


@on_both
def test_an_idempotency_key_makes_one_search(client, service):
    headers = {"Idempotency-Key": "k1"}
    first = client.post("/v1/searches", json=WANTED, headers=headers)
    again = client.post("/v1/searches", json=WANTED, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert len(service.jobs.waiting) == 1
    other = client.post("/v1/searches", json=WANTED | {"seed": 1}, headers=headers)
    assert other.status_code == 409
    assert first.json()["id"] in other.json()["detail"]
    with other_user(service, "submit") as grace:
        assert grace.post("/v1/searches", json=WANTED, headers=headers).status_code == 201


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"budgets": []}, "budgets"),
        ({"budgets": ["5 parsecs"]}, "5 parsecs"),
        ({"budgets": ["4x", "4x"]}, "twice"),
        ({"data": "/etc/passwd"}, "data"),
        ({"data": "elsewhere"}, "known are pydoc"),
        ({"teacher": "../../secret"}, "teacher"),
        ({"teacher": "bert-base-uncased"}, "known are minilm"),
        ({"space": "../spaces/tiny.yaml"}, "space"),
        ({"space": "huge"}, "known are"),
        ({"space": {"num_layers": [1]}}, "missing"),
        ({"space": {"hidden_size": {"min": 1, "max": 99_999, "step": 1}}}, "1000 choices"),
        ({"space": {"hidden_size": [10**9]}}, "100000"),
        ({"recipe": "slow"}, "known are"),
        ({"recipe": {"bogus": 1}}, "unknown key bogus"),
        ({"recipe": {"search": {"evaluations": 10**6}}}, "at most 2000"),
        ({"recipe": {"max_length": 10**6}}, "max_length"),
        ({"recipe": {"timing_rounds": 10**6}}, "timing_rounds"),
        ({"recipe": {"distill": {"texts": "/etc", "stages": [STAGE]}}}, "texts '/etc'"),
        ({"space": {"name": "\ud800"}}, "holds U+D800"),
        ({"space": {"name": "a" * 2000}}, "1,000 characters"),
        ({"space": {"num_layers": [97]}}, "from 1 to 96"),
        (
            {
                "space": {
                    field: {"min": 1, "max": 100, "step": 1}
                    for field in ("hidden_size", "num_heads", "qkv_size")
                }
            },
            "1000000 combinations",
        ),
        ({"recipe": {"max_length": 10**400}}, "2**53"),
        ({"recipe": {"supernet": {"training": TUNING, "num_random": 10**9}}}, "num_random"),
        (
            {"recipe": {"distill": {"stages": [STAGE], "augmentation": {"masked_model": "/etc"}}}},
            "masked_model",
        ),
        ({"targets": ["cpu", "moon"]}, "moon"),
        ({"supernet": "none-such"}, "supernet"),
        ({"seed": -1}, "seed"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_no_job_could_do_is_refused_in_one_line(client, service, changed, told):
    answer = client.post(
        "/v1/searches",
        content=json.dumps(WANTED | changed),  # which escapes what is no text
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert told in detail
    assert "\n" not in detail
    assert service.jobs.waiting == []
    assert client.get("/v1/searches").json()["items"] == []


@on_both
def test_pages_hold_every_search_once_newest_first(client):
    made = [submit(client, seed=seed)["id"] for seed in range(7)]
    seen, cursor = [], None
    while True:
        page = client.get(
            "/v1/searches", params={"limit": 3} | ({"cursor": cursor} if cursor else {})
        ).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == made[::-1]
    for bad in ("bm8", 201 * "a"):
        assert client.get("/v1/searches", params={"cursor": bad}).status_code == 422


@on_both
def test_lists_are_narrowed_by_status_and_owner(client, service):
    first, second = submit(client), submit(client, seed=1)
    client.post(f"/v1/searches/{first['id']}:cancel")
    ids = lambda **given: [  # noqa: E731
        one["id"] for one in client.get("/v1/searches", params=given).json()["items"]
    ]
    assert ids(status="cancelled") == [first["id"]]
    assert ids(status="queued") == [second["id"]]
    assert ids(owner="grace") == []


@on_both
def test_a_search_is_cancelled_once_and_tried_again(client, service):
    search_id = submit(client)["id"]
    cancelled = client.post(f"/v1/searches/{search_id}:cancel")
    assert cancelled.json()["status"] == "cancelled"
    assert service.jobs.waiting == []
    assert client.post(f"/v1/searches/{search_id}:cancel").status_code == 409
    again = client.post(f"/v1/searches/{search_id}:retry").json()
    assert (again["status"], again["attempt"]) == ("queued", 2)
    assert service.jobs.waiting == [(search_id, 2)]
    assert client.post(f"/v1/searches/{search_id}:retry").status_code == 409


def test_only_the_owner_and_an_admin_touch_a_search(client, service):
    search_id = submit(client)["id"]
    with other_user(service, "read", "submit") as grace:
        assert grace.get(f"/v1/searches/{search_id}").status_code == 200
        for method, path in (("POST", ":cancel"), ("POST", ":retry"), ("DELETE", "")):
            answer = grace.request(method, f"/v1/searches/{search_id}{path}")
            assert answer.status_code == 403
            assert "ada's" in answer.json()["detail"]
    with other_user(service, "admin") as root:
        assert root.post(f"/v1/searches/{search_id}:cancel").status_code == 200


@on_both
def test_a_search_is_removed_after_it_has_ended(client, service):
    search_id = submit(client)["id"]
    assert client.delete(f"/v1/searches/{search_id}").status_code == 409
    submit_task(service.engine, "t", target="pi", search_id=search_id, kind="time", request={})
    client.post(f"/v1/searches/{search_id}:cancel")
    assert client.delete(f"/v1/searches/{search_id}").status_code == 204
    assert client.get(f"/v1/searches/{search_id}").status_code == 404
    assert events.read_after(service.engine, {search_id: 0}) == {}
    assert find_task(service.engine, "t") is None


def stream(client, search_id, last=None) -> list[tuple[str, str, dict]]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    found = []
    with client.stream("GET", f"/v1/searches/{search_id}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields.get("event"):
                found.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
                fields = {}
    return found


@on_both
def test_events_are_followed_from_any_place_to_the_end(client, service):
    search_id = submit(client)["id"]
    assert lifecycle.begin(service.engine, search_id, 1)
    events.record(service.engine, search_id, "line", {"text": "hello\nthere", "level": "info"})
    assert lifecycle.finish(service.engine, search_id, 1, models=[])
    whole = stream(client, search_id)
    assert [kind for _, kind, _ in whole] == ["status", "status", "line", "status", "end"]
    assert [number for number, _, _ in whole[:-1]] == ["1", "2", "3", "4"]
    assert whole[2][2]["text"] == "hello\nthere"
    assert stream(client, search_id, last=3) == whole[3:]


def test_what_is_told_after_the_last_status_has_an_end_too(client, service):
    search_id = submit(client)["id"]
    assert lifecycle.begin(service.engine, search_id, 1)
    assert lifecycle.finish(service.engine, search_id, 1, models=[])
    events.record(service.engine, search_id, "line", {"text": "late", "level": "info"})
    assert [kind for _, kind, _ in stream(client, search_id, last=3)] == ["line", "end"]
    assert [kind for _, kind, _ in stream(client, search_id, last=4)] == ["end"]
    assert [kind for _, kind, _ in stream(client, search_id)][-2:] == ["line", "end"]


def test_a_stream_ends_after_its_hour_and_is_taken_up_again(client, service, monkeypatch):
    search_id = submit(client)["id"]
    monkeypatch.setattr(broadcast, "LASTS_S", 0.0)
    (queued,) = stream(client, search_id)
    assert lifecycle.begin(service.engine, search_id, 1)
    (begun,) = stream(client, search_id, last=queued[0])
    assert [queued[2]["status"], begun[2]["status"]] == ["queued", "running"]


def test_a_stream_ends_when_its_token_is_revoked(make_service, listen, monkeypatch):
    monkeypatch.setattr(broadcast, "ALLOWED_S", 0.1)
    monkeypatch.setattr(auth, "_REMEMBERED_S", 0.0)
    service = make_service(auth="required")
    host, port = listen(create_app(service), service)
    url = f"http://{host}:{port}/v1/searches"
    token_id, token = create_token(service.engine, "ada", ["read", "submit"])
    headers = {"Authorization": f"Bearer {token}"}
    search_id = httpx2.post(url, json=WANTED, headers=headers).json()["id"]
    with httpx2.stream("GET", f"{url}/{search_id}/events", headers=headers) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith(("id:", "event:"))
        assert revoke_token(service.engine, token_id)
        events.record(service.engine, search_id, "line", {"text": "late", "level": "info"})
        rest = list(lines)  # which ends
    assert not any("end" in line for line in rest if line.startswith("event:"))
    assert httpx2.get(f"{url}/{search_id}", headers=headers).status_code == 401


def test_one_user_has_half_of_the_streams(make_service, listen):
    service = make_service(auth="required", limits={"streams": 4})
    host, port = listen(create_app(service), service)
    url = f"http://{host}:{port}/v1/searches"

    def headers(user):
        _, token = create_token(service.engine, user, ["read", "submit"])
        return {"Authorization": f"Bearer {token}"}

    search_id = httpx2.post(url, json=WANTED, headers=headers("ada")).json()["id"]
    with ExitStack() as open_streams:

        def status(asker):
            asked = httpx2.stream("GET", f"{url}/{search_id}/events", headers=asker)
            return open_streams.enter_context(asked).status_code

        with ThreadPoolExecutor() as at_once:
            assert sorted(at_once.map(status, [headers("ada")] * 5)) == [200, 200, 429, 429, 429]
        others = [headers(user) for user in ("grace", "joan", "mary")]
        assert list(map(status, others)) == [200, 200, 503]
    with ExitStack() as open_streams:
        wait_for(lambda: status(others[2]) == 200)  # those who left have made room


@on_both
def test_an_attempt_ends_once(client, service):
    search_id = submit(client)["id"]
    assert lifecycle.begin(service.engine, search_id, 1)
    assert lifecycle.begin(service.engine, search_id, 1)  # a worker that took it up again
    begun = client.get(f"/v1/searches/{search_id}").json()
    assert lifecycle.finish(service.engine, search_id, 1, error="no room")
    ended = client.get(f"/v1/searches/{search_id}").json()
    assert begun["created"] < begun["updated"] < ended["updated"]
    assert not lifecycle.finish(service.engine, search_id, 1, models=[])
    client.post(f"/v1/searches/{search_id}:retry")
    assert not lifecycle.begin(service.engine, search_id, 1)
    told = [e.data for e in events.read_after(service.engine, {search_id: 0})[search_id]]
    assert [one["status"] for one in told] == ["queued", "running", "failed", "queued"]
    assert told[2]["error"] == "no room"


def test_the_catalog_names_what_a_search_may_name(client):
    offered = client.get("/v1/catalog").json()
    assert "minilm" in offered["teachers"]
    assert "pydoc" in offered["datasets"]
    assert {"name": "cpu", "place": "server", "last_seen": None} in offered["targets"]
    for space in offered["spaces"]:
        submit(client, space=space)
    for recipe in offered["recipes"]:
        submit(client, recipe=recipe)
    for metric in offered["metrics"]:
        submit(client, metric=metric)
    for target in offered["targets"]:
        submit(client, targets=[target["name"]])


def test_a_metric_is_one_that_some_kind_of_task_has(client):
    assert client.get("/v1/catalog").json()["metrics"] == list(METRICS)
    (given, _) = NewSearch.model_json_schema()["properties"]["metric"]["anyOf"]
    assert given["enum"] == list(METRICS)
    unknown = client.post("/v1/searches", json=WANTED | {"metric": "bleu"})
    assert unknown.status_code == 422
    (fault,) = unknown.json()["errors"]
    assert fault == {
        "field": "body.metric",
        "detail": f"write one of {', '.join(METRICS)}, not 'bleu'",
    }


@pytest.mark.parametrize("column", ["", 201 * "a"])
def test_a_column_has_a_name_of_some_length(client, column):
    for field, value in (("label_column", column), ("text_columns", [column])):
        assert client.post("/v1/searches", json=WANTED | {field: value}).status_code == 422


def test_the_stages_a_search_may_be_in_are_those_of_the_pipeline():
    assert requests.EARLY_STAGES == pipeline.STAGES


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b'{"budgets": ["4x"], "budgets": ["9x"]}', "key 'budgets' stands twice in an object"),
        (b'{"budgets": ["4x"], "recipe": {"a": 1, "a": 2}}', "key 'a' stands twice in an object"),
        ('{"budgets": ["4x"]}'.encode("utf-16"), "not in UTF-8"),
        (b'{"budgets": ["4x"]', "not valid JSON: "),
    ],
)
def test_a_body_is_strict_json(client, body, complaint):
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/searches", content=body, headers=headers)
    assert answer.status_code == 422
    assert complaint in answer.json()["detail"]
