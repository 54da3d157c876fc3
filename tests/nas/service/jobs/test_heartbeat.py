"""Who lives and who is silent, whatever clocks and databases do."""

from __future__ import annotations

import sqlalchemy as sa

from nas.service.database.tables import workers
from nas.service.jobs.heartbeat import Heartbeat


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def names(service) -> set[str]:
    with service.engine.connect() as connection:
        return set(connection.execute(sa.select(workers.c.name)).scalars())


def test_who_gives_no_sign_falls_silent_after_a_while(service):
    clock = Clock()
    ear = Heartbeat(service.engine, "a", 60, clock)
    lost, alive = (Heartbeat(service.engine, name, 60) for name in ("lost", "alive"))
    lost.beat()
    for clock.now in range(0, 120, 5):
        ear.beat()
        alive.beat()
        assert ear.silent() == (["lost"] if clock.now > 60 else [])
    assert ear.take_charge("lost")
    ear.end("lost")
    assert names(service) == {"a", "alive"}


def test_a_clock_that_differs_makes_nobody_silent(service):
    with service.engine.begin() as connection:
        connection.execute(workers.insert().values(name="behind", seen=0.0, about={}))
    assert Heartbeat(service.engine, "a", 60).silent() == []


def test_a_time_in_which_nothing_was_heard_does_not_count(service):
    clock = Clock()
    ear = Heartbeat(service.engine, "a", 60, clock)
    Heartbeat(service.engine, "b", 60).beat()
    assert ear.silent() == []
    ear.forget_heard()
    clock.now = 1000.0
    assert ear.silent() == []
    clock.now += 61.0
    assert ear.silent() == ["b"]


def test_one_of_those_who_listen_takes_charge_and_another_if_it_is_lost(service):
    clocks = [Clock(), Clock()]
    ears = [
        Heartbeat(service.engine, name, 60, clock) for name, clock in zip("ab", clocks, strict=True)
    ]
    Heartbeat(service.engine, "lost", 60).beat()
    for moment in (0.0, 61.0):
        for clock, ear in zip(clocks, ears, strict=True):
            clock.now = moment
            heard = [name for name in ear.silent() if name == "lost"]
    assert heard == ["lost"]
    assert [ear.take_charge("lost") for ear in ears] == [True, False]
    for moment in (62.0, 123.0):  # the first was lost before it was done
        clocks[1].now = moment
        heard = ears[1].silent()
    assert "lost" in heard
    assert ears[1].take_charge("lost")
