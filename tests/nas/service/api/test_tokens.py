"""The list of tokens over HTTP: a page like every other list that grows."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")

from nas.service.access.tokens import create_token, find_caller, revoke_token
from tests.nas.service.databases import on_both


@on_both
def test_tokens_are_listed_page_by_page_newest_first(client, service, monkeypatch):
    made = []
    for moment in (2e9, 2e9, 2e9, 3e9, 4e9):  # three of them within one tick of the clock
        monkeypatch.setattr("nas.service.access.tokens.time.time", lambda at=moment: at)
        made.append(create_token(service.engine, "bob", ["read"])[0])
    monkeypatch.undo()
    seen, sizes, cursor = [], [], None
    while not sizes or cursor is not None:
        page = client.get(
            "/v1/tokens", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        )
        assert set(page.json()) == {"items", "next"}
        cursor = page.json()["next"]
        seen += [one["id"] for one in page.json()["items"]]
        sizes.append(len(page.json()["items"]))
    assert sizes == [2, 2, 2]
    assert seen[:5] == [made[4], made[3], *sorted(made[:3])]
    assert len(set(seen)) == 6  # with the client's own


def test_a_listed_token_shows_no_secret_and_whether_it_is_in_force(client, service):
    token_id, token = create_token(service.engine, "bob", ["read"], days=None)
    revoke_token(service.engine, token_id)
    answer = client.get("/v1/tokens", params={"limit": 1})
    (told,) = answer.json()["items"]
    assert (told["id"], told["owner"], told["expires"]) == (token_id, "bob", None)
    assert told["revoked"] is not None
    assert token not in answer.text


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 201}, {"cursor": "nonsense"}])
def test_no_page_of_that_kind_is_refused(client, query):
    assert client.get("/v1/tokens", params=query).status_code == 422


@pytest.mark.parametrize(
    ("asked", "days"), [({}, 90), ({"days": 7.5}, 7.5), ({"days": None}, None)]
)
def test_a_token_expires_after_ninety_days_unless_one_says_otherwise(
    client, service, monkeypatch, asked, days
):
    made = client.post("/v1/tokens", json={"owner": "bob", "scopes": ["read"], **asked})
    assert made.status_code == 201, made.text
    token, started = made.json()["token"], time.time()

    def owner_at(later_s: float):
        monkeypatch.setattr("nas.service.access.tokens.time.time", lambda: started + later_s)
        found = find_caller(service.engine, token)
        return None if found is None else found.owner

    far_s = 3_000 * 86_400.0
    last_s = far_s if days is None else days * 86_400
    assert owner_at(last_s - 60) == "bob"
    assert owner_at(last_s + 60) == ("bob" if days is None else None)


def test_a_token_made_without_a_word_on_its_end_expires_after_ninety_days(service, monkeypatch):
    _, token = create_token(service.engine, "bob", ["read"])
    started = time.time()
    for days, in_force in ((89.9, True), (90.1, False)):
        monkeypatch.setattr(
            "nas.service.access.tokens.time.time", lambda d=days: started + d * 86_400
        )
        assert (find_caller(service.engine, token) is not None) == in_force
