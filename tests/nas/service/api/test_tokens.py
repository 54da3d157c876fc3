"""The list of tokens over HTTP: a page like every other list that grows."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")

from nas.service.access.tokens import create_token, revoke_token
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
