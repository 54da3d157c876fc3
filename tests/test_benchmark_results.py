"""What the benchmarks keep: light, readable, and told where it is from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latency.predictor import LatencyPredictor
from latency.profile import Profile
from supernet.architecture import Architecture

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def test_all_results_are_below_a_megabyte_and_a_half() -> None:
    assert sum(path.stat().st_size for path in RESULTS.iterdir()) < 1_500_000


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_says_on_which_machine_and_versions(path: Path) -> None:
    content = json.loads(path.read_text())
    machine = content.get("machine") or content["fingerprint"]  # of a profile
    assert {"cpu", "cores", "system"} <= machine.keys()
    assert "python" in machine["versions"]


def test_the_profile_of_the_search_benchmarks_predicts() -> None:
    predictor = LatencyPredictor(Profile.load(RESULTS / "search_profile.json")).fit()
    small, large = (
        Architecture.uniform(num_layers=layers, hidden_size=192, num_heads=6, intermediate_size=768)
        for layers in (2, 4)
    )
    two, four = predictor.predict([small, large])
    assert 1.5 < four / two < 3.5
