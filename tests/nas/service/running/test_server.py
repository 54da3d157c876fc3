"""A real server at a real socket: clients that are slow, silent or greedy; start and stop."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")

import httpx2
from fastapi import Request
from fastapi.responses import StreamingResponse

from nas.service.access.tokens import create_token
from nas.service.api.app import create_app
from nas.service.running.server import Server
from nas.service.searches import events
from supernet.errors import NasError
from tests.nas.service.live import wait_for
from tests.nas.service.seeded import finished_search

HEAD = b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def served(make_service, listen):
    """The address of a service with some limits of its own."""

    def at(**limits):
        service = make_service(limits=limits)
        return listen(create_app(service), service)

    return at


def connect(address):
    return socket.create_connection(address, timeout=20)


def rest(connection):
    """All that still comes, until the service closes the connection."""
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionError:
        pass
    return answer


def pour(connection, data):
    """Sends the same again and again until the service will have no more: how often.

    A service that ends a connection by time takes more on a faster machine: the bound is one that
    none reaches in that time.
    """
    for times in range(1_000_000):
        try:
            connection.sendall(data)
        except ConnectionError:
            return times
    raise AssertionError("the service takes it without an end")


def test_who_says_nothing_is_left(served):
    with connect(served(header_seconds=0.3)) as connection:
        assert rest(connection) == b""


def test_who_does_not_finish_the_head_is_left(served):
    with connect(served(header_seconds=0.3)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        assert rest(connection) == b""


def test_a_head_by_the_byte_takes_no_longer(served):
    address = served(header_seconds=0.3)
    with connect(address) as connection, connect(address) as other:
        other.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        assert rest(other) == b""  # as long as a head may take; the first has sent all the while
        while not select.select([connection], [], [], 0.02)[0]:
            connection.sendall(b"x")
        assert rest(connection) == b""


def test_who_is_answered_and_idle_is_left(served):
    with connect(served(header_seconds=2.0)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 200")


def test_a_connection_in_use_is_kept(served):
    with httpx2.Client(base_url="http://{}:{}".format(*served())) as client:
        first = client.get("/healthz").extensions["network_stream"].get_extra_info("client_addr")
        for _ in range(5):
            again = client.get("/healthz").extensions["network_stream"]
            assert again.get_extra_info("client_addr") == first


def test_a_head_without_an_end_is_refused(served):
    with connect(served()) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        assert pour(connection, b"x" * 16_384) < 10_000


def test_a_body_that_does_not_come_is_not_waited_for(served):
    with connect(served(body_seconds=0.3)) as connection:
        connection.sendall(HEAD + b"Content-Length: 30\r\n\r\n{")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in answer


def test_a_large_body_is_refused_before_it_comes(served):
    with connect(served(header_seconds=2.0)) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000001\r\nExpect: 100-continue\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 413")


def test_a_flood_of_chunks_is_refused_and_cut_off(served):
    with connect(served(header_seconds=1.0)) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        pour(connection, b"10000\r\n" + b" " * 0x10000 + b"\r\n")


def test_a_client_that_reads_nothing_is_left(make_service, listen):
    service = make_service(limits={"body_seconds": 0.3})
    app = create_app(service)
    left = threading.Event()

    @app.get("/large")
    async def large():
        async def parts():
            try:
                while True:
                    yield b"x" * 65536
                    await asyncio.sleep(0)
            finally:
                left.set()

        return StreamingResponse(parts())

    with connect(listen(app, service)) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert left.wait(20)


@pytest.mark.slow
def test_who_leaves_in_mid_replay_is_no_error(make_service, listen, log):
    service = make_service()
    search = finished_search(service)["id"]
    with service.engine.begin() as connection:
        for _ in range(2000):
            events.append(connection, search, "line", {"text": 2000 * "x", "level": "info"})
    address = listen(create_app(service), service)
    for _ in range(3):
        left = socket.socket()
        left.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        left.connect(address)
        left.sendall(
            f"GET /v1/searches/{search}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        left.recv(1000)
        threading.Event().wait(0.2)  # until the service waits for it to read on
        left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left.close()
    wait_for(lambda: sum(one.get("event") == "request" for one in log.events()) == 3)
    assert {one["level"] for one in log.events()} == {"info"}


def test_a_client_that_reads_slowly_is_served(make_service, listen):
    service = make_service(limits={"body_seconds": 2.0, "header_seconds": 2.0})
    app = create_app(service)

    @app.get("/large")
    async def large():
        return StreamingResponse(b"x" * 65536 for _ in range(100))

    received = 0
    with connect(listen(app, service)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while part := connection.recv(16_384):
            received += len(part)
            threading.Event().wait(0.006)  # in all longer than it waits for who reads nothing
    assert received > 100 * 65536


def test_there_are_only_so_many_connections(served):
    address = served(connections=10)
    held = [connect(address) for _ in range(10)]
    try:
        with connect(address) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert rest(connection).startswith(b"HTTP/1.1 503")
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize(("proxies", "seen"), [([], "127.0.0.1"), (["127.0.0.1"], "192.0.2.7")])
def test_only_a_named_proxy_says_where_a_request_is_from(make_service, listen, proxies, seen):
    service = make_service(auth="required", proxies=proxies)
    _, token = create_token(service.engine, "ada", ["read"])
    app = create_app(service)

    @app.get("/from")
    async def origin(request: Request) -> str:
        return request.client.host

    headers = {
        "Authorization": f"Bearer {token}",
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Proto": "https",
    }
    answer = httpx2.get("http://{}:{}/from".format(*listen(app, service)), headers=headers)
    assert answer.json() == seen
    assert ("Strict-Transport-Security" in answer.headers) == bool(proxies)


def test_an_address_that_is_taken_is_an_error_of_one_line(make_service):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = make_service(port=taken.getsockname()[1])
        with pytest.raises(NasError, match=r"cannot listen at 127\.0\.0\.1 port \d+: Address"):
            Server(create_app(service), service.settings)


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ["serve", "--port", str(taken.getsockname()[1]), "--data", str(tmp_path)]
        code = (
            "import sys; from nas.cli import main; sys.argv[1:] = "
            f"{words!r}\ntry: main()\nfinally: print('fastapi' in sys.modules)"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "False\n")
    assert "give another --port, or stop what listens there" in ended.stderr


SCRIPT = """
import asyncio
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from nas.service.running.logs import set_up_logs
from nas.service.running.server import Server, run_server
from nas.service.settings import ServiceSettings

app = FastAPI()
app.state.stopping = asyncio.Event()

async def until_stopped():
    yield b"began "
    await app.state.stopping.wait()
    yield b"ended"

app.add_api_route("/stream", lambda: StreamingResponse(until_stopped()))
set_up_logs("json")
try:
    run_server(Server(app, ServiceSettings(port=0), lambda url: print(url, flush=True)))
finally:
    print("cleaned up", flush=True)
"""


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_streams_and_cuts_nobody_off(told):
    root = Path(__file__).parents[4]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().strip()
        assert not url.endswith(":0")
        with httpx2.stream("GET", f"{url}/stream", timeout=30) as answer:
            parts = answer.iter_bytes()
            assert next(parts) == b"began "
            process.send_signal(told)
            assert b"".join(parts) == b"ended"
        out, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out == "cleaned up\n"
    assert '"event": "listening"' in errors
    assert "Traceback" not in errors
