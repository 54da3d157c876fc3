"""What a search hands over says whether anything was learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latency.target import Budget, Target
from nas.pipeline.pipeline import run_search
from nas.pipeline.request import Aim, Request
from nas.report.page import quality
from supernet.space import SearchSpace
from tests.nas.learnt import Lines, ground_in, write_data, write_teacher

pytestmark = pytest.mark.slow

SPACE = SearchSpace.from_dict(
    {
        "name": "few",
        "num_layers": [1, 2],
        "hidden_size": [16, 32],
        "num_heads": [2],
        "qkv_size": "hidden_size",
        "head_size": [8, 16],
        "intermediate_size": [16, 64],
        "uniform": True,
    }
)
SMALL: dict[str, Any] = {
    "profile_s": 1,
    "timing_rounds": 3,
    "count_disturbed": True,
    "search": {"evaluations": 4, "refinement": 1},
    "race": {"finalists": 2, "rungs": [3]},
}


def test_a_search_on_labels_drawn_by_lot_is_told_at_its_end(tmp_path: Path) -> None:
    write_teacher(tmp_path / "teacher")
    write_data(tmp_path / "data", at_random=True)
    lines = Lines()
    ground = ground_in(tmp_path, lines, **SMALL)
    target = Target(threads=1, batch_size=1, sequence_length=8)
    aim = Aim(target=target, budget=Budget.parse("10ms"))
    request = Request(**vars(ground.lesson), aims=(aim,), space=SPACE)
    (report,) = run_search(request, [tmp_path / "out"], ground.bench)

    assert lines.warned[-2:] == list(report.warnings)
    assert [line.partition("'s")[0] for line in report.warnings] == ["the teacher", "the model"]
    assert report.above_baseline is report.teacher_above_baseline is False
    assert "of the teacher's" not in quality(report)
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["warnings"] == list(report.warnings)
    assert written["data_summary"]["splits"] == {"train": 256, "validation": 32, "test": 32}
