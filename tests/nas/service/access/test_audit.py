"""The audit log: who did what, whether it was allowed, and who may read it."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")

from nas.service.access.tokens import create_token
from tests.nas.service.databases import on_both

NEW = {"owner": "bob", "scopes": ["read"]}


def entries(client, **query):
    return client.get("/v1/audit", params=query).json()["items"]


@on_both
def test_what_was_done_is_recorded_with_who_did_it(client):
    made = client.post("/v1/tokens", json=NEW, headers={"X-Request-ID": "r-1"}).json()
    client.delete(f"/v1/tokens/{made['id']}")
    client.get("/v1/whoami")
    ended, began = entries(client)
    assert began["action"] == "POST /v1/tokens"
    assert (began["actor"], began["outcome"], began["request_id"]) == ("ada", "done", "r-1")
    assert began["address"] == "testclient"
    assert len(began["token_id"]) == 16
    assert ended["action"] == "DELETE /v1/tokens/{token_id}"
    assert ended["subject"] == made["id"]


def test_a_search_that_was_made_is_named(client):
    made = client.post("/v1/searches", json={"budgets": ["4x"], "recipe": "smoke"}).json()
    (entry,) = entries(client)
    assert (entry["action"], entry["subject"]) == ("POST /v1/searches", made["id"])


def test_what_was_refused_is_recorded_too(client, service):
    _, reading = create_token(service.engine, "eve", ["read"])
    client.post("/v1/tokens", json=NEW, headers={"Authorization": f"Bearer {reading}"})
    client.post("/v1/tokens", json={"owner": "BOB", "scopes": []})
    found = [(entry["actor"], entry["outcome"]) for entry in entries(client)]
    assert found == [("ada", "invalid"), ("eve", "refused")]


def test_what_failed_is_recorded(client):
    @client.app.post("/boom")
    def boom():
        raise ValueError

    assert client.post("/boom").status_code == 500
    (entry,) = entries(client)
    assert (entry["action"], entry["outcome"]) == ("POST /boom", "failed")


def test_a_stranger_writes_nothing_to_the_log(client):
    for guess in ({"Authorization": "Bearer tb_guessed"}, {"Authorization": ""}):
        assert client.post("/v1/tokens", json=NEW, headers=guess).status_code == 401
    assert entries(client) == []


def test_questions_are_recorded_only_when_refused(client, service):
    question = {"search": "0123456789abcdef", "model": 0, "budget": "3ms"}
    assert client.post("/v1/architectures:query", json=question).status_code == 404
    assert entries(client) == []
    _, agents = create_token(service.engine, "pi", ["device"])
    device = {"Authorization": f"Bearer {agents}"}
    refused = client.post("/v1/architectures:query", json=question, headers=device)
    assert refused.status_code == 403
    (entry,) = entries(client)
    assert (entry["action"], entry["outcome"]) == ("POST /v1/architectures:query", "refused")


def test_what_reached_no_route_is_not_recorded(client):
    client.post("/v1/nothing")
    client.post("/v1/whoami")
    assert entries(client) == []


@on_both
def test_a_subject_cannot_break_the_log(client):
    client.delete("/v1/tokens/%00%1b%5b31m%0a" + "x" * 300)
    (entry,) = entries(client)
    assert entry["subject"].startswith("??[31m?xxx")
    assert len(entry["subject"]) == 128


@on_both
def test_pages_hold_everything_once_and_may_be_of_one_user(client, service):
    _, reading = create_token(service.engine, "eve", ["read"])
    for _ in range(5):
        client.post("/v1/tokens", json=NEW)
    client.post("/v1/tokens", json=NEW, headers={"Authorization": f"Bearer {reading}"})
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = client.get("/v1/audit", params=query).json()
        seen += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len({entry["request_id"] for entry in seen}) == 6
    assert seen == sorted(seen, key=lambda entry: entry["created"], reverse=True)
    assert len(entries(client, actor="ada")) == 5
    assert len(entries(client, actor="eve")) == 1
    assert client.get("/v1/audit", params={"cursor": "nonsense"}).status_code == 422
