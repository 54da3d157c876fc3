"""A search whose candidates a cluster scores finds what one process finds."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.nas.pipeline.small_search import RECIPE, Place

pytest.importorskip("ray", reason="needs tailorbert[ray]")
pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pathlib import Path

    from ray.cluster_utils import Cluster


def test_a_cluster_finds_what_one_process_finds(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, monkeypatch)
    raced = {"finetune": RECIPE["finetune"] | {"epochs": 2}, "race": {"finalists": 2, "rungs": [2]}}
    place.write("recipe", RECIPE | raced)
    alone = place.search("1.5x", "alone")
    for stage in ("search", "choice", "racer", "student"):
        shutil.rmtree(tmp_path / "workspace" / stage)
    (tmp_path / "workspace" / "scores.jsonl").unlink()
    together = place.search("1.5x", "together", ray=cluster.address, **{"ray-workers": "2"})
    assert together["stages"]["search"] > 0
    for key in ("architecture", "evaluations", "front", "race", "score"):
        assert together[key] == alone[key]
