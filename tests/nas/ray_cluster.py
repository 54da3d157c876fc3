"""One real Ray cluster for all tests that need one: each costs ten seconds of a core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

ROOM = {"num_cpus": 1, "object_store_memory": 200 * 2**20}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A head without room for workers, and two nodes with room for one each.

    A test that takes a node away adds another.
    """
    ray = pytest.importorskip("ray", reason="needs tailorbert[ray]")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    config = {
        "health_check_period_ms": 1000,
        "health_check_failure_threshold": 15,
        "worker_niceness": 0,  # other tests run beside these
    }
    head = ROOM | {"num_cpus": 0, "include_dashboard": False, "_system_config": config}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(**ROOM)
    ray.init(cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
