"""A search of the service that a Ray cluster scores."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("dbos", reason="needs tailorbert[service]")
pytest.importorskip("ray", reason="needs tailorbert[ray]")

from tests.nas.service.live import wait_for
from tests.nas.service.serving import (
    SMALL_TASK,
    descendants,
    job_processes,
    runs,
    serving,
    small_task,
)

pytestmark = pytest.mark.slow

WANTED = SMALL_TASK | {"budgets": ["1000ms"], "targets": ["cpu-1-thread"]}


def is_raylet(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return b"raylet" in Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    return False


def test_a_large_search_is_scored_by_a_cluster_that_ends_with_it(tmp_path):
    """That a cluster's scores are those of one process is tested in test_ray_search.py."""
    evaluations = SMALL_TASK["recipe"]["search"]["evaluations"]
    ray = {"address": "local", "from_evaluations": evaluations, "workers": 1}
    with serving(tmp_path, ray=ray, **small_task(tmp_path)) as served:
        search_id = served.submit(**WANTED)
        served.await_stage(search_id, "search")
        wait_for(lambda: any(map(is_raylet, descendants(served.process.pid))))
        rays = [pid for job in job_processes(served.process.pid) for pid in descendants(job)]
        served.await_status(search_id, "done")
        found = served.client.get(f"/v1/searches/{search_id}/models/0/front").json()
        wait_for(lambda: not any(map(runs, rays)))
    assert len(found["evaluations"]) >= evaluations
    assert all(0 <= one["score"] <= 1 for one in found["evaluations"])
