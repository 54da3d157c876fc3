"""How long a search is likely to wait and to take."""

from __future__ import annotations

import time
from types import SimpleNamespace as Row

import pytest
import sqlalchemy as sa

from nas.service.database.tables import events as happened
from nas.service.database.tables import searches, workers
from nas.service.searches.forecast import Waiting, forecast, in_order, start
from nas.service.searches.lifecycle import begin, create, find, finish
from nas.service.searches.requests import NewSearch
from nas.service.service import Service
from tests.nas.service.databases import on_both


def submit(service: Service, owner: str = "ada", recipe: str = "quick", priority: int = 100) -> str:
    new = NewSearch(budgets=("4x",), recipe=recipe, priority=priority)
    return str(create(service, owner, new, None)[0].id)


def run(service: Service, search: str, since_s: float) -> None:
    """Have a search run since so many seconds."""
    begin(service.engine, search, 1)
    with service.engine.begin() as connection:
        mine = sa.and_(happened.c.search_id == search, happened.c.number == 2)
        connection.execute(happened.update().where(mine).values(created=time.time() - since_s))


def took(service: Service, seconds: float, recipe: str = "quick") -> None:
    """Have a search be done that took so many seconds."""
    search = submit(service, recipe=recipe)
    run(service, search, seconds)
    finish(service.engine, search, 1, models=[])


def at_work(service: Service, count: int) -> None:
    with service.engine.begin() as connection:
        for number in range(count):
            values = {"name": f"worker-{number}", "seen": time.time(), "about": {}}
            connection.execute(workers.insert().values(**values))


FOREVER = float("inf")


def queue(*waiting: tuple[str, str, float]) -> list[Waiting]:
    return [Waiting(*one) for one in waiting]


@pytest.mark.parametrize(
    ("running", "waiting", "places", "expected"),
    [
        ([], [("me", "ada", 9.0)], 1, (0, 0.0)),
        ([(60.0, "bob")], [("me", "ada", 9.0)], 2, (0, 0.0)),
        ([(60.0, "bob")], [("me", "ada", 9.0)], 1, (0, 60.0)),
        ([(60.0, "bob"), (30.0, "eve")], [("x", "eve", 100.0), ("me", "ada", 9.0)], 2, (1, 60.0)),
        ([(FOREVER, "bob")], [("me", "ada", 9.0)], 1, (0, None)),
        ([(FOREVER, "bob"), (20.0, "bob")], [("me", "ada", 9.0)], 2, (0, 20.0)),
        ([], [("x", "bob", FOREVER), ("me", "ada", 9.0)], 1, (1, None)),
        # Two run where one has room: both must end.
        ([(60.0, "bob"), (30.0, "eve")], [("me", "ada", 9.0)], 1, (0, 60.0)),
        ([], [("me", "ada", 9.0)], 0, (0, None)),
        # A user has two places of four, and waits for one of them; others pass by.
        ([(50.0, "ada"), (70.0, "ada")], [("me", "ada", 9.0)], 4, (0, 50.0)),
        ([(50.0, "bob"), (70.0, "bob")], [("x", "bob", 9.0), ("me", "ada", 9.0)], 4, (0, 0.0)),
    ],
)
def test_a_search_starts_when_a_place_is_free_for_its_owner(running, waiting, places, expected):
    assert start(running, queue(*waiting), "me", places, 2) == expected


def test_ones_own_change_places_by_priority_and_take_nobody_elses():
    rows = [
        Row(owner="ada", priority=100, created=1.0, id="late"),
        Row(owner="bob", priority=1, created=2.0, id="bobs"),
        Row(owner="ada", priority=1, created=3.0, id="soon"),
    ]
    assert [row.id for row in in_order(rows)] == ["soon", "bobs", "late"]


@on_both
def test_a_search_waits_for_those_before_it_and_takes_the_median(service):
    for seconds in (100.0, 200.0, 900.0):
        took(service, seconds)
    took(service, 5000.0, recipe="full")
    at_work(service, 1)
    running, ahead, mine = (submit(service, owner) for owner in ("bob", "ada", "ada"))
    first = submit(service, priority=1)
    run(service, running, 50.0)
    found = forecast(service, "quick", "ada", find(service.engine, mine))
    assert found.status == "queued"
    assert (found.ahead, found.running, found.counted) == (2, 1, 3)
    assert found.takes_s == pytest.approx(200.0, abs=5.0)
    assert found.starts_in_s == pytest.approx(150.0 + 2 * 200.0, abs=10.0)
    next_one = forecast(service, "quick", "ada", find(service.engine, first))
    assert (next_one.ahead, next_one.starts_in_s) == (0, pytest.approx(150.0, abs=10.0))
    begun = forecast(service, "quick", "bob", find(service.engine, running))
    assert (begun.status, begun.ahead, begun.starts_in_s) == ("running", 0, None)
    new = forecast(service, "full", "carol")
    assert (new.ahead, new.counted) == (3, 1)
    assert new.takes_s == pytest.approx(5000.0, abs=5.0)
    assert find(service.engine, ahead).status == "queued"


def test_what_nobody_can_tell_is_not_told(service):
    waiting = submit(service)
    assert (
        forecast(service, "quick", "ada", find(service.engine, waiting)).starts_in_s is None
    )  # no worker
    at_work(service, 1)
    found = forecast(service, "quick", "ada", find(service.engine, waiting))
    assert (found.starts_in_s, found.takes_s, found.counted) == (0.0, None, 0)
    assert forecast(service, "quick", "ada").starts_in_s is None  # behind one of unknown length
    assert forecast(service, None, "ada").takes_s is None


def test_a_later_attempt_which_reuses_stages_does_not_count(service):
    search = submit(service)
    run(service, search, 1000.0)
    finish(service.engine, search, 1, error="lost")
    with service.engine.begin() as connection:
        again = searches.update().where(searches.c.id == search)
        connection.execute(again.values(status="queued", attempt=2))
    begin(service.engine, search, 2)
    finish(service.engine, search, 2, models=[])
    assert forecast(service, "quick", "ada").takes_s is None
    for seconds in range(20, 0, -1):  # of which the ten newest count
        took(service, float(seconds))
    for _ in range(12):
        took(service, 900.0, recipe="full")
    found = forecast(service, "quick", "ada")
    assert (found.counted, found.takes_s) == (10, pytest.approx(5.5, abs=1.0))


def test_it_is_told_over_http(client, service):
    took(service, 100.0)
    at_work(service, 1)
    search = submit(service)
    told = client.get(f"/v1/searches/{search}/forecast").json()
    assert told | {"takes_s": None} == {
        "status": "queued",
        "ahead": 0,
        "running": 0,
        "starts_in_s": 0.0,
        "takes_s": None,
        "counted": 1,
    }
    assert client.get("/v1/queue?recipe=quick").json()["ahead"] == 1
    assert client.get("/v1/queue").json()["takes_s"] is None
