"""What a cluster may be asked for."""

from __future__ import annotations

import pytest

from nas.cluster.options import RayOptions
from supernet.errors import NasError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", ""),
        ("workers", 0),
        ("workers", 1.5),
        ("cpus", -1),
        ("cpus", 0),  # with no GPU either, workers without number would find room
        ("gpus", 1.5),
        ("timeout_s", 0),
        ("attempts", 0),
        ("placement_s", float("nan")),
    ],
)
def test_options_out_of_range_are_named(field, value):
    with pytest.raises(NasError, match=field):
        RayOptions(**{field: value})


def test_a_worker_has_a_thread_for_each_core_of_its_own():
    assert [RayOptions(cpus=cpus, gpus=0.25).threads for cpus in (0, 0.5, 1, 4)] == [1, 1, 1, 4]
    assert RayOptions(cpus=0, gpus=0.25).resources == {"GPU": 0.25}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_address_where_nobody_answers_is_named(address, monkeypatch):
    evaluator = pytest.importorskip("nas.cluster.evaluator")
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # whatever tests ran before
    with pytest.raises(NasError, match=f"no Ray cluster answers at '{address}'"):
        evaluator.RayEvaluator(None, RayOptions(address))
