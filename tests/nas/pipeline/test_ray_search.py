"""A search whose candidates a cluster scores finds what one process finds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.nas.pipeline.small_search import RECIPE, Place

pytest.importorskip("ray", reason="needs tailorbert[ray]")
pytestmark = pytest.mark.slow

from ray.cluster_utils import Cluster  # noqa: E402

from nas.cluster.evaluator import RayEvaluator  # noqa: E402
from nas.pipeline.ray_race import RayRungRunner  # noqa: E402


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
    sent = {RayEvaluator: list[int](), RayRungRunner: list[int]()}
    for kind, name in ((RayEvaluator, "submit"), (RayRungRunner, "run")):
        method = getattr(kind, name)

        def count(*given: Any, kind: Any = kind, method: Any = method) -> Any:
            sent[kind].append(1)
            return method(*given)

        monkeypatch.setattr(kind, name, count)
    together = place.search("1.5x", "together", ray=cluster.address, **{"ray-workers": "2"})
    assert all(sent.values())
    for key in ("architecture", "evaluations", "front", "race", "score"):
        assert together[key] == alone[key]
