"""What goes to make room, and what never does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from nas.service.database.tables import audit, events, searches, tasks
from nas.service.upkeep.retention import Kept, alone, collect, older, over_quota, planned
from nas.store.workspace import Workspace
from supernet.errors import NasError

DAY = 86_400.0
NOW = time.time()

KEPT = st.lists(
    st.builds(
        Kept,
        name=st.uuids().map(str),
        bytes=st.integers(0, 1000),
        used=st.floats(0, 100),
        needed=st.booleans(),
    ),
    unique_by=lambda one: one.name,
)


@given(KEPT, st.integers(0, 5000))
def test_a_quota_lets_go_of_the_fewest_least_recently_used(kept, quota):
    going = over_quota(kept, quota)
    staying = [one for one in kept if one not in going]
    free = [one for one in staying if not one.needed]
    assert not any(one.needed for one in going)
    assert sum(one.bytes for one in staying) <= quota or not free
    assert all(one.used <= other.used for one in going for other in free)
    if going:  # without the last one it would not have been enough
        assert sum(one.bytes for one in staying) + going[-1].bytes > quota


@given(KEPT, st.floats(0, 100))
def test_age_lets_go_of_all_that_is_older_and_not_needed(kept, before):
    assert set(older(kept, before)) == {k for k in kept if k.used < before and not k.needed}


@given(KEPT, st.floats(0, 100), st.integers(0, 5000))
def test_a_plan_names_each_once_and_holds_both_rules(kept, before, quota):
    going = planned(kept, before=before, quota=quota)
    assert len({one.name for one in going}) == len(going)
    assert not any(one.needed for one in going)
    rest = [one for one in kept if one not in going]
    assert older(rest, before) == []
    assert over_quota(rest, quota) == []


def add_search(service, name: str, *, status: str = "done", age_days: float, size: int = 0) -> Path:
    """A search, with a model of ``size`` bytes."""
    at = NOW - age_days * DAY
    with service.engine.begin() as connection:
        connection.execute(
            searches.insert().values(
                id=name, owner="ada", created=at, updated=at, status=status, attempt=1,
                priority=100, request={}, expired=False,
            )
        )  # fmt: skip
        for number, kind in enumerate(("status", "line", "line", "status"), 1):
            connection.execute(
                events.insert().values(
                    search_id=name, number=number, created=at, kind=kind, data={}
                )
            )
    folder = service.folder("results") / name / "0"
    if size:
        for file, content in (("archive.zip", b"x" * size), ("report.json", b"{}")):
            write(folder / file, content, age_days)
    return folder


def write(path: Path, content: bytes, age_days: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    set_age(path, age_days)


def set_age(path: Path, age_days: float) -> None:
    for each in (*path.rglob("*"), path):
        os.utime(each, (NOW - age_days * DAY,) * 2)


def expired(service) -> set[str]:
    with service.engine.connect() as connection:
        query = sa.select(searches.c.id).where(searches.c.expired)
        return set(connection.execute(query).scalars())


@pytest.fixture
def kept(make_service):
    """A service that keeps 10 kB of results and 10 kB of workspace, and everything for 90 days."""
    quotas = {"results_gb": 1e-5, "workspace_gb": 1e-5}
    return make_service(auth="off", retention=quotas)


def test_models_go_by_age_and_by_quota_and_their_records_and_reports_stay(kept):
    old = add_search(kept, "old", age_days=100, size=10)
    middle = add_search(kept, "middle", age_days=20, size=6_000)
    new = add_search(kept, "new", age_days=10, size=6_000)
    running = add_search(kept, "running", status="running", age_days=200, size=3_000)
    collected = collect(kept.settings, kept.engine)
    assert set(collected.models) == expired(kept) == {"old", "middle"}
    assert collected.bytes == 6_010
    assert [(folder / "archive.zip").exists() for folder in (old, middle, new, running)] == [
        False, False, True, True,
    ]  # fmt: skip
    assert all((folder / "report.json").exists() for folder in (old, middle, new, running))
    assert collect(kept.settings, kept.engine).models == ()


def test_a_model_that_was_downloaded_lately_outlives_a_newer_one(kept):
    old = add_search(kept, "old", age_days=20, size=6_000)
    add_search(kept, "new", age_days=10, size=6_000)
    set_age(old / "archive.zip", 1)
    assert collect(kept.settings, kept.engine).models == ("new",)


def artifact(kept, stage: str, key: str, *, age_days: float, size: int = 4_000) -> Path:
    folder = Path(kept.settings.workspace_place) / stage / key
    write(folder / "model.safetensors", b"x" * size, age_days)
    set_age(folder, age_days)
    return folder


def test_the_workspace_keeps_to_its_quota_by_last_use(kept):
    for number in range(5):
        artifact(kept, "supernet", f"{number}", age_days=10 - number)
    assert collect(kept.settings, kept.engine).artifacts == (
        "supernet/0",
        "supernet/1",
        "supernet/2",
    )
    assert not (Path(kept.settings.workspace_place) / "supernet" / "0").exists()


def test_what_a_search_under_way_has_used_stays(kept):
    add_search(kept, "running", status="running", age_days=5)
    for number in range(5):
        artifact(kept, "supernet", f"{number}", age_days=4)
    assert collect(kept.settings, kept.engine).artifacts == ()
    with kept.engine.begin() as connection:
        connection.execute(searches.update().values(status="done"))
    assert len(collect(kept.settings, kept.engine).artifacts) == 3


def test_an_artifact_that_is_reused_counts_as_used(kept):
    workspace = Workspace(Path(kept.settings.workspace_place))

    def build(folder: Path) -> None:
        (folder / "weights").write_bytes(b"x" * 6_000)

    made = [workspace.artifact("supernet", {"seed": seed}, build) for seed in range(2)]
    for age, one in zip((20, 10), made, strict=True):
        set_age(one.path, age)
    assert workspace.artifact("supernet", {"seed": 0}, build).reused
    (gone,) = collect(kept.settings, kept.engine).artifacts
    assert gone == f"supernet/{made[1].path.name}"


def test_a_workspace_in_use_is_left_alone(kept, monkeypatch):
    monkeypatch.setattr("nas.service.upkeep.retention._PATIENCE_S", 0.1)
    artifact(kept, "supernet", "0", age_days=10, size=40_000)
    from filelock import FileLock

    with FileLock(Path(kept.settings.workspace_place) / ".lock"):
        collected = collect(kept.settings, kept.engine)
    assert (collected.artifacts, collected.busy) == ((), ("workspace",))


def test_stages_that_nobody_takes_up_again_go(kept):
    artifact(kept, "supernet", "a.partial", age_days=30, size=10)
    artifact(kept, "supernet", "b.partial", age_days=1, size=10)
    assert collect(kept.settings, kept.engine).leftovers == ("supernet/a.partial",)


def test_what_was_cut_off_goes_and_what_is_under_way_stays(kept):
    data = kept.settings.data
    add_search(kept, "known", age_days=1)
    add_search(kept, "running", status="running", age_days=40)
    going = {"results/gone", "results/known/.0.tmp", "profiles/.cpu.json.x", "scratch/known"}
    going.add("tasks/over")
    for name in (*going, "results/fresh", "scratch/running", "profiles/cpu.json"):
        write(data / name / "file", b"x", age_days=2)
        set_age(data / name, 2)
    set_age(data / "results" / "fresh", 0)
    assert set(collect(kept.settings, kept.engine, dry_run=True).leftovers) == going
    assert all((data / name).exists() for name in going)
    assert set(collect(kept.settings, kept.engine).leftovers) == going
    assert not any((data / name).exists() for name in going)
    assert (data / "scratch" / "running").exists()


def test_rows_go_by_age_but_how_a_search_ended_stays(kept):
    add_search(kept, "old", age_days=40)
    add_search(kept, "new", age_days=20)
    add_search(kept, "running", status="running", age_days=400)
    task = {"target": "phone", "kind": "time", "request": {}, "attempts": 1}
    record = {"actor": "ada", "action": "x", "subject": "y", "outcome": "ok", "request_id": "r"}
    with kept.engine.begin() as connection:
        for number, (days, status) in enumerate([(40, "done"), (40, "claimed"), (20, "failed")]):
            at = NOW - days * DAY
            connection.execute(
                tasks.insert().values(id=f"{number}", status=status, created=at, updated=at, **task)
            )
        for days in (400, 300):
            connection.execute(
                audit.insert().values(created=NOW - days * DAY, address="::1", **record)
            )
    assert (
        collect(kept.settings, kept.engine, dry_run=True).rows
        == collect(kept.settings, kept.engine).rows
        == {"events": 3, "audit": 1, "tasks": 1}
    )
    with kept.engine.connect() as connection:
        query = sa.select(events.c.search_id, sa.func.count()).group_by(events.c.search_id)
        assert dict(connection.execute(query).all()) == {"old": 1, "new": 4, "running": 4}
        last = sa.select(events.c.number, events.c.kind).where(events.c.search_id == "old")
        assert connection.execute(last).all() == [(4, "status")]


def test_a_dry_run_removes_nothing(kept):
    folder = add_search(kept, "old", age_days=100, size=10)
    artifact(kept, "supernet", "0", age_days=10, size=40_000)
    collected = collect(kept.settings, kept.engine, dry_run=True)
    assert (collected.models, collected.artifacts) == (("old",), ("supernet/0",))
    assert collected.bytes == 40_010
    assert (folder / "archive.zip").exists()
    assert expired(kept) == set()
    assert collect(kept.settings, kept.engine) == collected


def test_one_collects_at_a_time(kept):
    with alone(kept.settings), pytest.raises(NasError, match="is being backed up or cleared"):
        collect(kept.settings, kept.engine)
    collect(kept.settings, kept.engine)
