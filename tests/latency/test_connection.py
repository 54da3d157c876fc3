"""A connection to a service: which failures pass, how long one waits, and what a person is told."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from latency import connection
from latency.connection import AwayError, Connection, Patience, RefusedError, UnreachableError
from supernet.errors import NasError

AWAY = AwayError("away")


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept: time passes by sleeping alone, and no wait is shortened."""
    waits: list[float] = []
    monkeypatch.setattr(connection.time, "monotonic", lambda: sum(waits))
    monkeypatch.setattr(connection.time, "sleep", waits.append)
    monkeypatch.setattr(connection._JITTER, "uniform", lambda _, most: most)
    return waits


def test_patience_waits_longer_each_time_and_then_raises(slept: list[float]) -> None:
    patience = Patience([1.0, 5.0])
    for _ in range(2):
        patience.fail(AWAY)
        patience.wait()
    assert slept == [1.0, 5.0]
    with pytest.raises(AwayError) as raised:
        patience.fail(AWAY)
    assert raised.value is AWAY


def test_patience_for_ever_stays_at_the_last_wait(slept: list[float]) -> None:
    patience = Patience([1.0, 5.0], forever=True)
    for _ in range(4):
        patience.fail(AWAY)
        patience.wait()
    assert slept == [1.0, 5.0, 5.0, 5.0]


def test_after_a_success_patience_is_as_new(slept: list[float]) -> None:
    patience = Patience([1.0, 5.0])
    patience.fail(AWAY)
    patience.renew()
    patience.wait()
    patience.fail(AWAY)
    patience.wait()
    assert slept == [0.0, 1.0]


@pytest.mark.parametrize(("asked_s", "waited_s"), [(0.5, 1.0), (7.0, 7.0), (3600.0, 60.0)])
def test_a_service_that_asks_for_time_gets_it_within_bounds(
    slept: list[float], asked_s: float, waited_s: float
) -> None:
    patience = Patience([1.0])
    patience.fail(AwayError("busy", asked_s))
    patience.wait()
    assert slept == [waited_s]


def test_clients_do_not_come_back_together() -> None:
    ends = set()
    for _ in range(20):
        patience = Patience([100.0])
        patience.fail(AWAY)
        ends.add(patience.until_s)
    assert max(ends) - min(ends) > 1.0


def connected(answer: Callable[[httpx2.Request], httpx2.Response]) -> Connection:
    """A connection whose requests a function answers."""
    found = Connection("http://nas", None)
    found._http = httpx2.Client(transport=httpx2.MockTransport(answer), base_url="http://nas")
    return found


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, AwayError), (503, AwayError), (500, RefusedError), (404, RefusedError)],
)
def test_a_problem_is_its_detail(status: int, kind: type[NasError]) -> None:
    told = {"detail": "two\nlines\x1b[2J"}
    server = connected(lambda _: httpx2.Response(status, json=told, headers={"Retry-After": "7"}))
    with pytest.raises(kind) as raised:
        server.json("GET", "/")
    assert str(raised.value) == "two lines [2J"
    assert getattr(raised.value, "retry_s", 7.0) == 7.0
    assert getattr(raised.value, "status", status) == status


def test_an_empty_answer_is_none_and_another_must_be_json() -> None:
    assert connected(lambda _: httpx2.Response(204)).json("GET", "/") is None
    portal = connected(lambda _: httpx2.Response(200, html="<p>Sign in"))
    with pytest.raises(RefusedError, match="answers no JSON: is it this service"):
        portal.json("GET", "/")


@pytest.mark.parametrize(
    ("error", "kind"),
    [(httpx2.ConnectError("no route"), UnreachableError), (httpx2.ReadError(""), AwayError)],
)
def test_what_breaks_on_the_way_may_pass(error: Exception, kind: type[NasError]) -> None:
    def broken(_: httpx2.Request) -> httpx2.Response:
        raise error

    with pytest.raises(kind, match=str(error) or "ReadError") as raised:
        connected(broken).json("GET", "/")
    assert type(raised.value) is kind
