"""What every request passes: ids, headers, names, origins, rates, bodies, unexpected errors."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")

import anyio
import sqlalchemy as sa
from fastapi import Response
from fastapi.testclient import TestClient

from nas.service.access.tokens import Caller, create_token, revoke_token
from nas.service.api.app import create_app
from nas.service.api.body_limits import LARGE_AT_ONCE, BodyLimits
from nas.service.settings import Limits

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def open_client(make_service):
    """A client of a service on loopback that asks for no token; settings as keyword arguments."""

    def make(**settings):
        return TestClient(create_app(make_service(**settings)))

    return make


def ask(app, method, path, parts, headers):
    """The status of a request whose body is drawn only as it is read."""
    status = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "client": ("192.0.2.7", 1),
        "headers": [
            (name.lower().encode(), value.encode())
            for name, value in (
                {"Host": "testserver", "Transfer-Encoding": "chunked"} | headers
            ).items()
        ],
    }

    async def receive():
        part = next(parts, b"")
        return {"type": "http.request", "body": part, "more_body": bool(part)}

    async def send(message):
        if message["type"] == "http.response.start":
            status.append(message["status"])

    anyio.run(app, scope, receive, send)
    return status[0]


@pytest.mark.parametrize("given", ["a", "trace-1.2_3", "x" * 64])
def test_a_plain_request_id_is_kept(client, given):
    assert client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize(
    "given", ["", "x" * 65, "a b", "a\tb", 'a"b', "a;b", "ä".encode(), b"a\r\nSet-Cookie: b=c"]
)
def test_any_other_request_id_is_replaced(client, given):
    answer = client.get("/healthz", headers={"X-Request-ID": given})
    assert len(answer.headers["X-Request-ID"]) == 16
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/v1/whoami", "/v1/nothing", "/v1/searches/a/models/0/report.html"]
)
def test_every_response_tells_browsers_to_be_careful(client, path):
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "geolocation=()" in headers["Permissions-Policy"]
    assert "Server" not in headers


def test_only_the_page_runs_scripts_and_only_its_own(client):
    page = client.get("/").headers["Content-Security-Policy"]
    assert "script-src 'self';" in page
    report = client.get("/v1/searches/a/models/0/report.html").headers["Content-Security-Policy"]
    assert "style-src 'unsafe-inline'" in report
    assert "script-src" not in report
    assert "style-src" not in client.get("/v1/whoami").headers["Content-Security-Policy"]


def test_only_archives_may_be_kept(client):
    assert client.get("/v1/whoami").headers["Cache-Control"] == "no-store"
    archive = client.get("/v1/searches/a/models/0/archive").headers
    assert archive["Cache-Control"] == "private, no-cache"


def test_what_a_response_says_of_itself_stands(client):
    @client.app.get("/v1/kept")
    def kept():
        return Response("", headers={"Cache-Control": "max-age=60"})

    answer = client.get("/v1/kept")
    assert answer.headers.get_list("Cache-Control") == ["max-age=60"]


def test_browsers_are_told_to_stay_with_tls_only_where_there_is_tls(service):
    app = create_app(service)
    assert "Strict-Transport-Security" not in TestClient(app).get("/healthz").headers
    secure = TestClient(app, base_url="https://testserver").get("/healthz")
    assert secure.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8765", "[::1]", "[::1]:8765", "nas.example"]
)
def test_the_service_answers_to_its_names(open_client, host):
    client = open_client(hosts=["nas.example"])
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "nas.example.evil", "", "nas.example:80:80", "a@b"],
)
def test_the_service_answers_to_no_other_name(open_client, host):
    client = open_client(hosts=["nas.example"])
    answer = client.get("/healthz", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_service_of_an_address_answers_to_it(open_client):
    client = open_client(host="::", auth="required")
    assert client.get("/healthz", headers={"Host": "[::]:8765"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver:8080"},
        {"Origin": "http://testserver.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_without_tokens_another_sites_page_changes_nothing(open_client, headers):
    client = open_client()
    new = {"owner": "eve", "scopes": ["admin"]}
    assert client.post("/v1/tokens", json=new, headers=headers).status_code == 403
    assert client.delete("/v1/tokens/0123456789abcdef", headers=headers).status_code == 403
    assert client.get("/v1/tokens").json()["items"] == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}],
)
def test_without_tokens_the_services_own_page_may(open_client, headers):
    gone = open_client().delete("/v1/tokens/0123456789abcdef", headers=headers)
    assert gone.status_code == 404


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via"])
def test_without_tokens_nobody_comes_through_a_proxy(open_client, client, name):
    refused = open_client().get("/v1/whoami", headers={name: "a"})
    assert refused.status_code == 403
    assert "set auth: required" in refused.json()["detail"]
    assert client.get("/v1/whoami", headers={name: "a"}).status_code == 200


def test_without_tokens_none_are_made(open_client):
    client = open_client()
    new = {"owner": "eve", "scopes": ["admin"]}
    assert client.post("/v1/tokens", json=new).status_code == 409
    assert client.get("/v1/tokens").json()["items"] == []


def test_origins_that_the_operator_names_may(open_client):
    client = open_client(origins=["https://lab.example"])
    path = "/v1/tokens/0123456789abcdef"
    headers = {"Origin": "https://lab.example", "Sec-Fetch-Site": "cross-site"}
    answer = client.delete(path, headers=headers)
    assert answer.status_code == 404
    assert answer.headers["Access-Control-Allow-Origin"] == "https://lab.example"
    headers["Origin"] = "https://evil.example"
    assert client.delete(path, headers=headers).status_code == 403


def test_by_default_no_page_of_another_origin_reads_anything(open_client):
    client = open_client()
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (client.options("/v1/tokens", headers=headers), client.get("/v1/whoami")):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_client_that_asks_too_often_is_told_when_to_come_back(open_client, mid_minute):
    client = open_client(limits={"requests_per_minute": 3})
    for left in (2, 1, 0):
        answer = client.get("/v1/whoami")
        assert answer.status_code == 200
        assert answer.headers["RateLimit-Policy"] == '"requests";q=3;w=60'
        assert answer.headers["RateLimit"].startswith(f'"requests";r={left};t=')
    refused = client.get("/v1/whoami")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 120
    assert refused.json()["title"] == "Too Many Requests"


def test_health_is_always_told(open_client):
    client = open_client(limits={"requests_per_minute": 1})
    statuses = {client.get(path).status_code for path in 5 * ["/healthz"]}
    assert statuses == {200}


def test_tokens_have_their_own_allowance_and_who_guesses_them_has_one(make_service, mid_minute):
    service = make_service(auth="required", limits={"requests_per_minute": 4})
    client = TestClient(create_app(service))
    good = [create_token(service.engine, name, ["read"])[1] for name in ("ada", "bob")]

    def ask(token):
        return client.get("/v1/whoami", headers={"Authorization": f"Bearer {token}"}).status_code

    assert [ask(token) for token in good] == [200, 200]  # on the address: not known yet
    assert [ask(f"tb_{number}") for number in range(4)] == [401, 401, 429, 429]
    assert [ask(good[0]) for _ in range(5)] == [200, 200, 200, 200, 429]
    assert ask(good[1]) == 200


def test_a_token_keeps_its_allowance_after_it_must_be_looked_up_again(
    make_service, monkeypatch, mid_minute
):
    monkeypatch.setattr("nas.service.api.auth._REMEMBERED_S", 0.0)
    service = make_service(auth="required", limits={"requests_per_minute": 2})
    client = TestClient(create_app(service))
    token_id, token = create_token(service.engine, "ada", ["read"])
    good = {"Authorization": f"Bearer {token}"}
    assert client.get("/v1/whoami", headers=good).status_code == 200
    assert [client.get("/v1/whoami").status_code for _ in range(3)] == [401, 429, 429]
    assert client.get("/v1/whoami", headers=good).status_code == 200
    revoke_token(service.engine, token_id)
    assert client.get("/v1/whoami", headers=good).status_code == 401


def test_a_strangers_body_is_not_read(service):
    app = create_app(service)
    _, token = create_token(service.engine, "ada", ["admin"])

    def send(**headers):
        read = []

        def body():
            for part in (b"{", b"}"):
                read.append(part)
                yield part

        answer = ask(app, "POST", "/v1/tokens", body(), JSON | headers)
        return answer, len(read)

    assert send() == (401, 0)
    assert send(Authorization="Bearer tb_guessed") == (401, 0)
    assert send(Authorization=f"Bearer {token}") == (422, 2)


def test_a_token_is_looked_up_once(client, service, monkeypatch):
    monkeypatch.setattr("nas.service.api.auth._REMEMBERED_S", 3600.0)
    asked = []
    sa.event.listen(service.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    assert {client.get("/v1/whoami").status_code for _ in range(3)} == {200}
    assert len(asked) == 1


def test_each_kind_of_body_has_its_own_limit(make_service):
    limits = {"body_bytes": 1024, "upload_bytes": 4096, "profile_bytes": 2048}
    client = TestClient(create_app(make_service(limits=limits)))

    def status(method, path, size):
        return client.request(method, path, content=b" " * size, headers=JSON).status_code

    for method, path, most in (
        ("POST", "/v1/tokens", 1024),
        ("PUT", "/v1/datasets/mine", 4096),
        ("PUT", "/v1/supernets/mine", 4096),
        ("PUT", "/v1/datasets/mine/more", 1024),
        ("PUT", "/v1/targets/board/profile", 2048),
        ("PUT", "/v1/targets/board", 1024),
        ("POST", "/v1/tasks/0f/complete", 1024),
        ("POST", "/v1/tasks/0f:complete", 2048),
    ):
        assert status(method, path, most) != 413
        assert status(method, path, most + 1) == 413


def test_a_user_has_few_large_bodies_under_way():
    async def run():
        arrived, go_on = anyio.Semaphore(0), anyio.Event()

        async def check(scope, receive, send):
            arrived.release()
            await go_on.wait()
            await Response(status_code=201)(scope, receive, send)

        app = BodyLimits(check, Limits())
        told = []

        async def put(owner, path="/v1/datasets/mine"):
            caller = Caller(owner, frozenset({"submit"}), "t")
            headers = [(b"content-length", b"1"), (b"content-type", b"application/json")]
            scope = {"type": "http", "method": "PUT", "path": path, "headers": headers}

            async def send(message):
                if message["type"] == "http.response.start":
                    told.append((owner, message["status"]))

            await app(scope | {"state": {"caller": caller}}, anyio.sleep_forever, send)

        async with anyio.create_task_group() as group:
            for _ in range(LARGE_AT_ONCE):
                group.start_soon(put, "ada")
                await arrived.acquire()
            await put("ada")
            await put("ada", "/v1/targets/pi/profile")
            assert told == [("ada", 429), ("ada", 429)]
            for owner, path in (("grace", "/v1/datasets/hers"), ("ada", "/v1/searches")):
                group.start_soon(put, owner, path)
                await arrived.acquire()
            go_on.set()
        told.clear()
        await put("ada")
        assert told == [("ada", 201)]

    anyio.run(run)


def test_a_body_that_does_not_say_its_length_is_held_to_the_limit(make_service):
    client = TestClient(create_app(make_service(limits={"body_bytes": 1024})))
    answer = client.post("/v1/tokens", content=iter([b" " * 1000] * 2), headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["detail"] == "the body must be at most 1024 bytes"


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_json_must_say_that_it_is(client, content_type):
    headers = {"Content-Type": content_type}
    assert client.post("/v1/tokens", content=b"{}", headers=headers).status_code == 415


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/a+JSON"])
def test_json_may_say_so_in_its_ways(client, content_type):
    headers = {"Content-Type": content_type}
    body = b'{"owner": "ada", "scopes": ["read"]}'
    assert client.post("/v1/tokens", content=body, headers=headers).status_code == 201


def test_what_is_wrong_with_a_request_is_told_in_short(client):
    new = {"owner": "ada", "scopes": ["read"]} | {
        f"{number}{'x' * 200}": ["y" * 1000] * 20 for number in range(40)
    }
    answer = client.post("/v1/tokens", json=new)
    assert answer.status_code == 422
    assert len(answer.content) < 20_000
    errors = answer.json()["errors"]
    assert len(errors) == 20
    assert errors[-1]["detail"].endswith("; and 20 more")


def test_an_unexpected_error_is_logged_and_says_nothing_of_itself(client, log):
    @client.app.get("/boom")
    def boom():
        raise ValueError("the inner secret")

    answer = client.get("/boom", headers={"X-Request-ID": "r-1"})
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"] == "r-1"
    assert "inner secret" not in answer.text
    assert "Content-Security-Policy" in answer.headers
    (failed,) = (event for event in log.events() if event["event"] == "request failed")
    assert failed["request_id"] == "r-1"
    assert "ValueError: the inner secret" in failed["exception"]
    assert "Traceback" in failed["exception"]


def test_each_request_is_a_line(client, log):
    client.get("/v1/whoami?colour=blue", headers={"X-Request-ID": "r-2"})
    client.delete("/v1/tokens/0123456789abcdef")
    client.get("/elsewhere")
    lines = [event for event in log.events() if event["event"] == "request"]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "/v1/whoami", 200),
        ("DELETE", "/v1/tokens/{token_id}", 404),
        ("GET", "-", 404),
    ]
    assert lines[0]["request_id"] == "r-2"
    assert [line.get("user") for line in lines] == ["ada", "ada", "ada"]
    assert all(line["duration_ms"] >= 0 for line in lines)
    assert "blue" not in log.getvalue()


def test_a_method_that_a_path_does_not_take_is_told_those_that_it_takes(open_client):
    client = open_client()
    for path, allowed in (
        ("/v1/searches", "GET, POST"),
        ("/v1/searches/0123456789abcdef:cancel", "POST"),
        ("/healthz", "GET"),
    ):
        answer = client.put(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
