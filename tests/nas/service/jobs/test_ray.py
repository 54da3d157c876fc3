"""A search of the service that a Ray cluster scores."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("dbos", reason="needs tailorbert[service]")
pytest.importorskip("ray", reason="needs tailorbert[ray]")

from supernet.configs import read_config
from tests.nas.service.live import wait_for
from tests.nas.service.serving import (
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


def is_raylet(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return b"raylet" in Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    return False


def test_a_large_search_is_scored_by_a_cluster_that_ends_with_it(tmp_path):
    """That a cluster's scores are those of one process is tested in test_ray_search.py."""
    data = write_questions(tmp_path / "questions")
    evaluations = RECIPE["search"]["evaluations"]
    ray = {"address": "local", "from_evaluations": evaluations, "workers": 1}
    with serving(tmp_path, datasets={"questions": str(data)}, ray=ray) as served:
        search_id = served.submit(**WANTED)
        served.await_stage(search_id, "search")
        wait_for(lambda: any(map(is_raylet, descendants(served.process.pid))))
        rays = [pid for job in job_processes(served.process.pid) for pid in descendants(job)]
        served.await_status(search_id, "done")
        found = served.client.get(f"/v1/searches/{search_id}/models/0/front").json()
        wait_for(lambda: not any(map(runs, rays)))
    assert len(found["evaluations"]) >= evaluations
    assert all(0 <= one["score"] <= 1 for one in found["evaluations"])
