"""Attacks on every route there is: found in the application, so that new ones are attacked too."""

from __future__ import annotations

import re
import socket
import time
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")

import sqlalchemy as sa
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient

from nas.service.access.tokens import SCOPES, create_token, revoke_token
from nas.service.api.app import create_app
from nas.service.api.auth import is_public, refuse_open_routes, scopes_of
from nas.service.database.tables import tokens

CANARY = "only who escaped from the data folder reads this"
PARAMETER = re.compile(r"\{[^}]+\}")


def routes(app):
    """(method, route) of all that answer."""
    return [
        (method, route)
        for route in iter_route_contexts(app.routes)
        for method in sorted((route.methods or {"GET"}) - {"HEAD"})
    ]


def protected(app):
    """(method, path with something for each parameter, route) of all that ask for a token."""
    found = [
        (method, PARAMETER.sub("0123456789abcdef", route.path), route)
        for method, route in routes(app)
        if not is_public(route.path)
    ]
    assert len(found) > 5
    return found


@pytest.fixture
def app(service):
    return create_app(service)


def test_public_routes_are_few_and_change_nothing(app):
    public = [(method, route.path) for method, route in routes(app) if is_public(route.path)]
    assert {method for method, _ in public} == {"GET"}
    assert {path for _, path in public} <= {
        "/",
        "/assets",
        "/assets/{path:path}",
        "/assets/{name}",
        "/assets/{file}",
        "/healthz",
        "/readyz",
        "/v1/openapi.json",
    }


def test_an_app_with_a_route_that_nobody_protected_does_not_start(app):
    refuse_open_routes(app)
    app.add_api_route("/v1/forgotten", lambda: None)
    with pytest.raises(RuntimeError, match="/v1/forgotten asks for no scope"):
        refuse_open_routes(app)


def test_no_route_answers_without_a_token(app):
    client = TestClient(app)
    wrong = [
        (method, path, answer.status_code)
        for method, path, _ in protected(app)
        if (answer := client.request(method, path)).status_code != 401
        or not answer.headers["WWW-Authenticate"].startswith("Bearer")
        or answer.headers["Content-Type"] != "application/problem+json"
    ]
    assert wrong == []


def test_no_route_answers_to_a_token_that_is_not_good(app, service):
    revoked_id, revoked = create_token(service.engine, "eve", ["admin"])
    revoke_token(service.engine, revoked_id)
    expired_id, expired = create_token(service.engine, "eve", ["admin"])
    good_id, good = create_token(service.engine, "ada", ["admin"])
    with service.engine.begin() as connection:
        connection.execute(
            tokens.update().where(tokens.c.id == expired_id).values(expires=time.time() - 1)
        )
        digest = connection.scalar(sa.select(tokens.c.digest).where(tokens.c.id == good_id))
    client = TestClient(app)

    def refused(method, path, header):
        return client.request(method, path, headers={"Authorization": header}).status_code == 401

    for header in (
        "",
        "Bearer",
        "Bearer ",
        "Bearer null",
        f"Basic {good}",
        good,
        f"Bearer {good}x",
        f"Bearer {good[:-1]}",
        f"Bearer {good.upper()}",
        f"Bearer {good} {good}",
        f"Bearer {digest}",
        f"Bearer {good_id}",
        "Bearer tb_" + "x" * 10_000,
        "Bearer ' or 1=1 --",
        b"Bearer \xff\xfe",
    ):
        assert refused("GET", "/v1/whoami", header), header[:40]
    wrong = [
        (method, path, header[:40])
        for method, path, _ in protected(app)
        for header in (
            f"Bearer {expired}",
            f"Bearer {revoked}",
            "Bearer tb_unknown",
            f"Basic {good}",
        )
        if not refused(method, path, header)
    ]
    assert wrong == []


def test_no_route_answers_to_a_token_of_another_scope(app, service):
    client = TestClient(app)
    wrong = []
    for method, path, route in protected(app):
        others = set(SCOPES) - set(scopes_of(route)) - {"admin"}
        _, token = create_token(service.engine, "eve", others)
        answer = client.request(method, path, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code != 403:
            wrong.append((method, path, sorted(others), answer.status_code))
    assert wrong == []


ESCAPES = (
    "..",
    "../../canary.txt",
    "..\\..\\canary.txt",
    "{outside}/canary.txt",
    "file://{outside}/canary.txt",
    "a\0../canary.txt",
    "~",
    "x" * 5000,
)


def attacks(app, outside):
    """(method, path) with each escape in the place of each parameter, once and twice encoded."""
    for method, route in routes(app):
        for place in PARAMETER.finditer(route.path):
            before = PARAMETER.sub("0123456789abcdef", route.path[: place.start()])
            behind = PARAMETER.sub("0123456789abcdef", route.path[place.end() :])
            for escape in ESCAPES:
                once = quote(escape.replace("{outside}", str(outside)), safe="")
                for encoded in {once.replace("..", "%2e%2e"), quote(once, safe="")}:
                    yield method, before + encoded + behind


def test_no_path_leads_out_of_the_data_folder(client, tmp_path):
    canaries = [
        folder / "canary.txt" for folder in (tmp_path, tmp_path / "data", tmp_path / "data/results")
    ]
    for canary in canaries:
        canary.parent.mkdir(exist_ok=True)
        canary.write_text(CANARY)
    tried = 0
    for method, path in attacks(client.app, tmp_path):
        answer = client.request(method, path, follow_redirects=False)
        if answer.url.path == "/":  # the client itself went up, as far as to the page
            continue
        tried += 1
        assert 400 <= answer.status_code < 500, (method, path[:120], answer.status_code)
        assert CANARY not in answer.text, (method, path[:120])
    assert tried > 100
    assert [canary.read_text() for canary in canaries] == 3 * [CANARY]


def talk(address, request):
    """What comes back for raw bytes, until the connection is closed."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


TARGETS = (
    b"/../../canary.txt",
    b"/%2e%2e/%2e%2e/canary.txt",
    b"/assets/../canary.txt",
    b"/assets/..%2f..%2fcanary.txt",
    b"/assets/%2e%2e%5ccanary.txt",
    b"/assets//{outside}/canary.txt",
    b"/assets/%00",
    b"/v1/../canary.txt",
    b"/v1/searches/../../canary.txt",
    b"/v1/%c0%ae%c0%ae/canary.txt",
    b"/v1/datasets/%ff%fe",
    b"/v1/tokens/\xff\xfe",
    b"/v1/tokens/\x00",
    b"{outside}/canary.txt",
    b"file://{outside}/canary.txt",
    b"http://evil.example/canary.txt",
    b"*",
    b"canary.txt",
    b"/" + b"x" * 200_000,
    b"/%",
    b"/%zz",
    b"/" + b"../" * 1000 + b"canary.txt",
)


def test_no_raw_path_leads_anywhere(service, listen, tmp_path):
    (tmp_path / "canary.txt").write_text(CANARY)
    _, token = create_token(service.engine, "ada", ["admin"])
    address = listen(create_app(service), service)
    head = f"Host: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    for target in TARGETS:
        there = target.replace(b"{outside}", str(tmp_path).encode())
        for method in (b"GET", b"PUT", b"DELETE"):
            answer = talk(address, method + b" " + there + b" HTTP/1.1\r\n" + head.encode())
            assert answer.startswith(b"HTTP/1.1 4"), (method, target[:80], answer[:80])
            assert CANARY.encode() not in answer


AMBIGUOUS = (
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Content-Length: -1",
    b"Content-Length: 1e3",
    b"Content-Length: 99999999999999999999999",
    b"Transfer-Encoding: chunked, identity",
    b"X-A: b\r\n : c",
    b"X-A: b\x00c",
    b"Host: evil.example",
)


def test_ambiguous_heads_are_refused(service, listen):
    _, token = create_token(service.engine, "ada", ["admin"])
    address = listen(create_app(service), service)
    for line in AMBIGUOUS:
        answer = talk(
            address,
            b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nAuthorization: Bearer %b\r\n%b\r\n\r\n" % (token.encode(), line),
        )
        assert answer.startswith(b"HTTP/1.1 4"), line


def json_routes(app):
    """(method, path) of the routes that read a JSON body."""
    found = [
        (method, path)
        for method, path, route in protected(app)
        if isinstance(route.original_route, APIRoute)
        and route.original_route.body_field is not None
    ]
    assert found
    return found


def test_no_route_takes_a_larger_body_than_it_may(make_service):
    limits = {"body_bytes": 1024, "profile_bytes": 1024, "upload_bytes": 1024}
    app = create_app(make_service(limits=limits))
    client = TestClient(app, headers={"Content-Type": "application/json"})
    changing = [(method, path) for method, path, _ in protected(app) if method != "GET"]
    assert changing
    for method, path in changing:
        assert client.request(method, path, content=b"x" * 1025).status_code == 413, path
    for method, path in json_routes(app):
        chunks = iter(3 * [b" " * 1000])
        assert client.request(method, path, content=chunks).status_code == 413, path


def test_no_json_route_takes_a_form(client):
    for method, path in json_routes(client.app):
        answer = client.request(
            method, path, content=b"a=b", headers={"Content-Type": "text/plain"}
        )
        assert answer.status_code == 415, path


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'"' + b"\\ud800" * 1000 + b'"',
        b'{"owner": "\\u0000", "scopes": ["read"]}',
        b"9" * 10_000,
    ],
)
def test_no_json_makes_a_route_fail(client, body):
    for method, path in json_routes(client.app):
        headers = {"Content-Type": "application/json"}
        answer = client.request(method, path, content=body, headers=headers)
        assert 400 <= answer.status_code < 500, (path, answer.status_code)


def test_the_log_holds_no_secret(service, log):
    app = create_app(service)
    _, token = create_token(service.engine, "ada", ["admin"])

    @app.get("/boom")
    def boom(given: str):
        url = f"postgresql://nas:{given}@db.example/nas"
        raise ValueError(f"cannot use {given} with {url}")

    client = TestClient(app, headers={"Authorization": f"Bearer {token}"})
    client.get("/v1/whoami")
    client.get(f"/v1/whoami?token={token}")
    client.get(f"/v1/{token}")
    client.delete(f"/v1/tokens/{token}", headers={"X-Request-ID": token})
    client.get("/boom", params={"given": token})
    client.get("/boom", params={"given": "correct-horse"}, headers={"X-Request-ID": token})
    made = client.post("/v1/tokens", json={"owner": "bob", "scopes": ["read"]}).json()
    assert token not in client.get("/v1/audit").text
    text = log.getvalue()
    assert "cannot use tb_***" in text
    assert "//nas:***@db.example" in text
    assert token not in text
    assert made["token"] not in text
    assert "correct-horse@" not in text
