"""Whole models side by side, built here or loaded from files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from latency import beside
from latency.beside import time_beside
from latency.device import THIS_MACHINE
from latency.fingerprint import Fingerprint
from latency.onnx_graph import classifier_model
from latency.target import Latency, Target
from latency.timing import measure
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError

TARGET = Target(threads=1, batch_size=1, sequence_length=16)
SHAPE = EncoderShape(vocab_size=64, max_positions=32)
SMALL, LARGE = (
    Architecture.uniform(
        num_layers=layers, hidden_size=size, num_heads=2, intermediate_size=4 * size
    )
    for layers, size in ((1, 16), (4, 256))
)


def test_files_and_architectures_are_timed_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = tmp_path / "model.onnx"
    onnx.save(classifier_model(SMALL, SHAPE), str(exported))
    answers: list[np.ndarray] = []

    def numbered(calls, **options) -> list[Latency]:
        answers.extend(np.asarray(call()) for call in calls)
        measured = measure(calls, **options)
        return [replace(one, p50_ms=float(n)) for n, one in enumerate(measured)]

    told: list[tuple[int, int]] = []
    monkeypatch.setattr(beside, "measure", numbered)
    found = time_beside(
        [LARGE, exported, LARGE], TARGET, SHAPE, rounds=3, progress=lambda *done: told.append(done)
    )
    assert [one.p50_ms for one in found] == [0.0, 1.0, 2.0]
    large, small, again = answers
    np.testing.assert_array_equal(large, again)
    assert not np.array_equal(large, small)
    assert told[-1] == (9, 9)


def test_a_mix_of_lengths_is_one_latency() -> None:
    mix = Target.from_dict({"threads": 1, "batch_size": 1, "lengths": {8: 1, 16: 1}})
    (one,) = time_beside([SMALL], mix, SHAPE, rounds=3)
    assert one.minimum_ms <= one.p50_ms <= one.p95_ms


def test_this_machine_is_a_device(tmp_path: Path) -> None:
    assert THIS_MACHINE.fingerprint(TARGET) == Fingerprint.of_this_machine(TARGET)
    with pytest.raises(NasError, match="no model file at"):
        THIS_MACHINE.time([tmp_path / "missing.onnx"], TARGET, SHAPE, rounds=3)


def test_an_agent_needs_no_torch() -> None:
    statement = "import sys, latency.agent, latency.runtimes.onnx_runtime"
    check = "sys.exit(bool({'torch', 'transformers', 'nas'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", f"{statement}; {check}"], check=True)
