"""Webhooks: told once a search has ended, signed, again after a refusal, to allowed hosts alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas.service.database.tables import deliveries
from nas.service.searches import webhooks
from nas.service.searches.events import read_after
from nas.service.searches.lifecycle import cancel, create, find, finish, retry
from nas.service.searches.requests import NewSearch
from nas.service.searches.webhooks import (
    PAUSES_S,
    check_webhook,
    claim,
    settle,
    signature,
    signing_key,
)
from nas.service.service import Service
from supernet.errors import NasError
from tests.nas.service.databases import on_both
from tests.nas.service.live import wait_for

# From the Standard Webhooks specification's own example.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://hooks.example.org/nas"


def search(service: Service, webhook: str | None = URL) -> str:
    new = NewSearch(budgets=("4x",), recipe="quick", name="Tickets", webhook=webhook)
    row, _ = create(service, "ada", new, None)
    return str(row.id)


def told(service: Service) -> list[dict[str, object]]:
    with service.engine.connect() as connection:
        return [json.loads(row.body) for row in connection.execute(sa.select(deliveries))]


def test_a_signature_is_that_of_the_scheme():
    key = signing_key(SECRET)
    assert key == base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = '{"test": 2432232314}'
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["", "plain", "whsec_!", "whsec_YQ"])
def test_a_secret_that_is_none_is_refused(secret):
    with pytest.raises(NasError, match="NAS_WEBHOOK_SECRET: it must be whsec_ and base64"):
        signing_key(secret)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hooks.example.org/", "no https:// address"),
        ("ftp://hooks.example.org/", "no https:// address"),
        ("hooks.example.org", "no https:// address"),
        ("https://", "host '' is not allowed"),
        ("https://elsewhere.example.org/", "host 'elsewhere.example.org' is not allowed"),
        ("https://hooks.example.org.evil.org/", "is not allowed"),
        ("https://hooks.example.org@evil.org/", "is not allowed"),
        ("https://user:pw@hooks.example.org/", "is not allowed"),
        ("https://hooks.example.org:8443/", "is not allowed"),
        ("https://hooks.example.org/\n", "no https:// address"),
        ("https://[::1/", "is no address"),
    ],
)
def test_only_hosts_that_the_operator_allows_are_called(url, says):
    with pytest.raises(NasError, match="webhook: ") as refused:
        check_webhook(url, ["hooks.example.org"])
    assert says in str(refused.value)


def test_a_host_that_was_struck_off_the_list_is_not_called_any_more(service, delivering):
    first = search(service)
    finish(service.engine, first, 1, models=[])
    delivering(service, "other.example.org")
    wait_for(lambda: not told(service))
    lines = read_after(service.engine, {first: 0})[first]
    assert "host 'hooks.example.org' is not allowed" in lines[-1].data["text"]


def test_a_receiver_that_dawdles_holds_up_no_other(service, receiver, delivering, monkeypatch):
    monkeypatch.setattr(webhooks, "_ANSWER_S", 1.0)
    monkeypatch.setattr(webhooks, "PAUSES_S", (0.05, 0.05))
    receiver.dawdles = True
    slow = search(service, f"https://{receiver.host}/slow")
    finish(service.engine, slow, 1, models=[])
    delivering(service, receiver.host)
    wait_for(lambda: not told(service))
    lines = read_after(service.engine, {slow: 0})[slow]
    assert "no answer within 1 s" in lines[-1].data["text"]


def test_allowed_addresses_pass():
    for url in (URL, "https://HOOKS.example.org:443/x", "https://ci.example.org:8443/y?z=1"):
        check_webhook(url, ["hooks.example.org:443", "CI.example.org:8443"])


def test_the_service_refuses_a_webhook_at_once(client):
    wanted = {"budgets": ["4x"], "recipe": "quick", "webhook": URL}
    answer = client.post("/v1/searches", json=wanted)
    assert answer.status_code == 422
    assert "webhook: host 'hooks.example.org' is not allowed; allowed are none" in answer.text


@on_both
def test_each_end_of_a_search_is_told_once(service):
    first = search(service)
    assert told(service) == []
    assert finish(service.engine, first, 1, error="no such column")
    assert not finish(service.engine, first, 1, models=[])
    (sent,) = told(service)
    assert sent["type"] == "search.failed"
    assert sent["data"] == {
        "id": first,
        "name": "Tickets",
        "owner": "ada",
        "attempt": 1,
        "error": "no such column",
        "status": "failed",
    }
    retry(service, find(service.engine, first))
    assert finish(service.engine, first, 2, models=[])
    cancelled = search(service)
    cancel(service, find(service.engine, cancelled))
    finish(service.engine, search(service, webhook=None), 1, models=[])
    assert [one["type"] for one in told(service)] == [
        "search.failed",
        "search.done",
        "search.cancelled",
    ]


@on_both
def test_what_is_refused_is_tried_again_ever_later_and_at_last_told_of(service):
    first = search(service)
    finish(service.engine, first, 1, models=[])
    now = time.time() + 1
    for pause in PAUSES_S:
        (one,) = claim(service.engine, now)
        assert claim(service.engine, now) == []  # who has claimed it has it alone
        settle(service.engine, one, "HTTP 500", now)
        assert claim(service.engine, now + pause - 1) == []
        now += pause + 1
    (last,) = claim(service.engine, now)
    settle(service.engine, last, "HTTP 500", now)
    assert told(service) == []
    lines = read_after(service.engine, {first: 0})[first]
    assert lines[-1].data["text"] == (
        "webhook hooks.example.org was not told: HTTP 500; no further try"
    )


@on_both
def test_one_whose_sender_was_killed_is_sent_by_the_next(service):
    finish(service.engine, search(service), 1, models=[])
    now = time.time() + 1
    (lost,) = claim(service.engine, now)
    assert claim(service.engine, now + 30) == []
    (taken,) = claim(service.engine, now + 61)
    settle(service.engine, lost, "HTTP 500", now + 62)  # which is not its to say by now
    settle(service.engine, taken, None, now + 63)
    assert told(service) == []


@dataclass
class Receiver:
    """A real server with TLS, which notes what it is sent."""

    host: str
    statuses: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    dawdles: bool = False


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    found = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
            if found.dawdles:  # a byte now and then, so that no read takes long
                with suppress(OSError):
                    for letter in b"HTTP/1.1 200 OK\r\nX: " + 200 * b"x":
                        self.wfile.write(bytes([letter]))
                        threading.Event().wait(0.2)
                return
            self.send_response(found.statuses.pop(0) if found.statuses else 204)
            self.send_header("Location", "https://xn--a/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    found.host = f"localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()


@pytest.fixture
def delivering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    monkeypatch.setattr(webhooks, "_EVERY_S", 0.05)
    monkeypatch.setattr(webhooks, "PAUSES_S", (0.05,))
    ended, threads = threading.Event(), []

    def begin(service: Service, *hosts: str) -> None:
        thread = threading.Thread(
            target=webhooks.deliver, args=(service.engine, signing_key(SECRET), hosts, ended)
        )
        thread.start()
        threads.append(thread)

    yield begin
    ended.set()
    for thread in threads:
        thread.join(20)


def test_a_receiver_gets_a_signed_message_again_until_it_takes_it(service, receiver, delivering):
    receiver.statuses = [307]  # which is not followed, and leads to no host that there could be
    first = search(service, f"https://{receiver.host}/nas")
    finish(service.engine, first, 1, models=[])
    delivering(service, receiver.host)
    wait_for(lambda: len(receiver.received) == 2 and not told(service))
    (before, _), (headers, body) = receiver.received
    assert before["webhook-id"] == headers["webhook-id"]  # so that who got it twice can tell
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert json.loads(body)["data"]["id"] == first


def test_a_receiver_that_is_not_there_is_given_up_and_told_of(service, delivering):
    first = search(service, "https://localhost:1/nas")
    finish(service.engine, first, 1, models=[])
    delivering(service, "localhost:1")
    wait_for(lambda: not told(service))
    lines = read_after(service.engine, {first: 0})[first]
    assert lines[-1].data["text"].startswith("webhook localhost:1 was not told: ConnectError")
