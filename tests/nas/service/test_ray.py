"""A search of the service that a Ray cluster scores finds what one process finds."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

pytest.importorskip("dbos", reason="needs tailorbert[service]")
pytest.importorskip("ray", reason="needs tailorbert[ray]")

from supernet.configs import read_config
from tests.nas.service.live import wait_for
from tests.nas.service.serving import (
    Served,
    descendants,
    job_processes,
    runs,
    serving,
    write_questions,
)

pytestmark = pytest.mark.slow

RECIPE = read_config("recipes", "smoke") | {"profile_s": 3, "limit": 60}
WANTED = {
    "budgets": ["1000ms"],
    "targets": ["cpu-1-thread"],
    "space": "tiny",
    "data": "questions",
    "recipe": RECIPE,
}


def front(served: Served) -> dict:
    search_id = served.submit(**WANTED)
    served.await_status(search_id, "done")
    return served.client.get(f"/v1/searches/{search_id}/models/0/front").json()


def is_raylet(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return b"raylet" in Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    return False


def test_a_cluster_scores_as_one_process_does(tmp_path):
    data = write_questions(tmp_path / "questions")
    with serving(tmp_path, datasets={"questions": str(data)}) as served:
        alone = front(served)
        served.stop()

        shutil.rmtree(served.data / "workspace" / "search")
        (served.data / "workspace" / "scores.jsonl").unlink()
        ray = {
            "address": "local",
            "from_evaluations": RECIPE["search"]["evaluations"],
            "workers": 1,
        }
        given = yaml.safe_load(served.config.read_text())
        served.config.write_text(yaml.safe_dump(given | {"ray": ray}))
        served.start()
        search_id = served.submit(**WANTED)
        served.await_stage(search_id, "search")
        wait_for(lambda: any(map(is_raylet, descendants(served.process.pid))))
        rays = [pid for job in job_processes(served.process.pid) for pid in descendants(job)]
        served.await_status(search_id, "done")
        found = served.client.get(f"/v1/searches/{search_id}/models/0/front").json()
        wait_for(lambda: not any(map(runs, rays)))
    for key in ("points", "evaluations"):
        assert found[key] == alone[key]
