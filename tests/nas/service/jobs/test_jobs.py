"""Searches that really run: to their end, past a kill, cancelled, failed, and in a fair order."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pytest
import sqlalchemy as sa

pytest.importorskip("dbos", reason="needs tailorbert[service]")

from nas.service.access.tokens import create_token
from nas.service.database.engine import open_database
from nas.service.database.tables import events
from tests.nas.learnt import CLASSES
from tests.nas.service.serving import SMALL_TASK, serving, small_task

pytestmark = pytest.mark.slow

WANTED = SMALL_TASK | {"budgets": ["1000ms", "900ms"], "targets": ["cpu-1-thread"]}


def statuses(served, search_id) -> list[str]:
    engine = open_database(f"sqlite:///{served.data / 'service.db'}")
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(events.c.data)
            .where(events.c.search_id == search_id, events.c.kind == "status")
            .order_by(events.c.number)
        ).scalars()
        found = [row["status"] for row in rows]
    engine.dispose()
    return found


def test_a_search_ends_once_whatever_happens_to_the_service(tmp_path):
    with serving(tmp_path, **small_task(tmp_path)) as served:
        search_id = served.submit(**WANTED)
        served.await_stage(search_id, "teacher", "supernet", "search")
        served.kill()
        served.start()
        done = served.await_status(search_id, "done")
        assert statuses(served, search_id) == ["queued", "running", "done"]
        assert [model["budget"] for model in done["models"]] == ["1000ms", "900ms"]
        for model in done["models"]:
            assert model["measured_ms"] <= model["budget_ms"]

        place = f"/v1/searches/{search_id}/models/1"
        whole = served.client.get(f"{place}/archive")
        told = done["models"][1]["archive"]
        assert hashlib.sha256(whole.content).hexdigest() == told["sha256"]
        assert whole.headers["etag"] == f'"{told["sha256"]}"'
        part = served.client.get(
            f"{place}/archive",
            headers={"Range": "bytes=100-", "If-Range": whole.headers["etag"]},
        )
        assert (part.status_code, part.content) == (206, whole.content[100:])
        with zipfile.ZipFile(io.BytesIO(whole.content)) as archive:
            archive.extractall(tmp_path / "model")
        from transformers import AutoModelForSequenceClassification

        import supernet.student  # noqa: F401 - transformers learns the models' type from it

        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model" / "model")
        assert model.config.num_labels == CLASSES

        front = served.client.get(f"{place}/front").json()
        best = served.client.post(
            "/v1/architectures:query", json={"search": search_id, "budget": "1000ms"}
        ).json()
        within = [one for one in front["evaluations"] if one["within_caps"]]
        top = max(within, key=lambda one: (round(one["smoothed_score"], 4), -one["latency_ms"]))
        assert best["architecture"] == {
            **top["architecture"],
            "layers": best["architecture"]["layers"],
        }
        assert best["latency_ms"] == top["latency_ms"]
        none = served.client.post(
            "/v1/architectures:query", json={"search": search_id, "budget": "0.000001ms"}
        )
        assert none.status_code == 422
        assert "the fastest is" in none.json()["detail"]
        assert "Budget met" in served.client.get(f"{place}/report.html").text
        told = served.client.get(f"/v1/searches/{search_id}/events").text
        assert "within the budget" in told
        assert str(tmp_path) not in told

        assert not list((served.data / "scratch").iterdir())
        assert served.stop() == 0


def test_a_cancelled_search_stops_and_a_failed_one_says_why(tmp_path):
    data = tmp_path / "words"
    with serving(tmp_path, **small_task(tmp_path)) as served:
        slow = served.submit(**WANTED | {"recipe": SMALL_TASK["recipe"] | {"profile_s": 600}})
        served.await_stage(slow, "profiles")
        assert served.client.post(f"/v1/searches/{slow}:cancel").json()["status"] == "cancelled"

        (data / "train.jsonl").rename(data / "test.jsonl")
        lost = served.submit(**WANTED)
        failed = served.await_status(lost, "failed")
        assert "no train split" in failed["error"]
        assert statuses(served, slow) == ["queued", "running", "cancelled"]
        assert not list((served.data / "scratch").iterdir())

        (data / "test.jsonl").rename(data / "train.jsonl")
        again = served.client.post(f"/v1/searches/{lost}:retry").json()
        assert (again["attempt"], again["error"]) == (2, None)
        served.await_stage(lost, "profiles")
        served.client.post(f"/v1/searches/{lost}:cancel")


def test_no_user_waits_for_all_of_another(tmp_path):
    with serving(
        tmp_path, datasets={"gone": str(tmp_path / "gone.csv")}, auth="required"
    ) as served:
        engine = open_database(f"sqlite:///{served.data / 'service.db'}")
        tokens = {who: create_token(engine, who, ["submit", "read"])[1] for who in ("ada", "bob")}
        made = {"ada": [], "bob": []}

        def submit(who: str, **more: object) -> None:
            served.client.headers["Authorization"] = f"Bearer {tokens[who]}"
            made[who].append(served.submit(budgets=["2x"], data="gone", space="tiny", **more))

        for number in range(16):
            submit("ada", priority=1 if number == 15 else 100)
        submit("bob")
        everything = made["ada"] + made["bob"]
        for search_id in everything:
            served.await_status(search_id, "failed")
        with engine.connect() as connection:
            begun = connection.execute(
                sa.select(events.c.search_id, sa.func.min(events.c.created))
                .where(events.c.kind == "stage")
                .group_by(events.c.search_id)
            ).all()
        engine.dispose()
        order = [row.search_id for row in sorted(begun, key=lambda row: row[1])]
        assert sorted(order) == sorted(everything)
        # Users are drawn by lot: to be the last of 17 has a chance of one in 30,000.
        assert order[-1] != made["bob"][0]
        hers = [one for one in order if one in made["ada"]]
        assert hers.index(made["ada"][15]) < 15  # it came last, and its priority was the highest
