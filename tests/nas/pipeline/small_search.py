"""A search that takes seconds: its teacher learns at once, its clock is told what to show.

The clock has a made-up profile's latencies, 4% more for students than it predicts, with slow
moments for the teacher alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from latency.asked import ProfileAsked
from latency.calls import calls_of
from latency.device import ThisMachine
from latency.fingerprint import Fingerprint
from latency.predictor import LatencyPredictor
from latency.profile import Measurement, Profile, Session
from latency.static_design import assumed_ms, static_design
from latency.target import Latency, Target, Workload
from latency.timing import Block, Record
from nas.cli import main
from nas.models.measured import load_model
from supernet.architecture import Architecture, EncoderShape
from supernet.space import SearchSpace
from supernet.student import architecture_of
from tests.nas.learnt import write_data, write_teacher

SPACE = {
    "name": "small",
    "num_layers": [1, 2, 3],
    "hidden_size": [16, 32],
    "num_heads": [2, 4],
    "qkv_size": [16, 32],
    "intermediate_size": [16, 32, 64],
    "uniform": True,
}
TARGET = {"threads": 1, "batch_size": 1, "sequence_length": 12}
RECIPE: dict[str, Any] = {
    "max_length": 12,
    "limit": 160,
    "finetune": {"learning_rate": 3e-3, "batch_size": 8, "epochs": 5, "patience": 5},
    "importance_examples": 48,
    "supernet": {
        "training": {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3},
        "num_random": 1,
    },
    "profile_s": 5,
    "timing_rounds": 7,
    "headroom": 0.05,
    "confidence": 0.6,
    "search": {"evaluations": 10, "refinement": 2, "batch": 2},
    "distill": {
        "start": "own",
        "checks": 2,
        "stages": [
            {
                "name": "distil",
                "training": {"steps": 6, "batch_size": 16, "learning_rate": 1e-3},
                "losses": {"hard": 0.3, "soft": 1.0, "hidden": 1.0},
            }
        ],
    },
}
SLOWER = 1.04
"""Students take this many times what is predicted."""
SLOW_MOMENTS = 3.0
"""The teacher's 95th percentile is this many times its median; students have no slow moments."""


def profile_of(target: Target, space: SearchSpace, shape: EncoderShape) -> Profile:
    """A complete profile of a quiet device."""
    workloads = (Workload(target.batch_size, target.sequence_length),)
    plan = static_design([space], workloads, chosen=30, drawn=15, seed=0)
    times = assumed_ms(calls_of([one for one, _ in plan], first_token_last_layer=True))
    rng = np.random.default_rng(0)

    def record(milliseconds: float) -> Record:
        samples = milliseconds * (1 + 0.01 * rng.random((10, 3)))
        return Record(tuple(Block(tuple(map(float, row)), 1.0, 1.0, 0) for row in samples))

    return Profile(
        target=target, workloads=workloads, fingerprint=Fingerprint.of_this_machine(target),
        spaces=(space.to_dict(),), shape=shape, seed=0, seconds=60.0, complete=True,
        sessions=(Session("2026-01-01T00:00:00+00:00"),),
        measurements=tuple(
            Measurement(subject, role, 0, record(ms))
            for (subject, role), ms in zip(plan, times, strict=True)
        ),
    )  # fmt: skip


@dataclass
class Clock:
    """What this machine shows, and what it was asked for.

    Args:
        workspace: holds the profile. Where it holds several, times are those of the one that was
            made here last.
    """

    workspace: Path
    profiled: list[ProfileAsked] = field(default_factory=list)
    timed: list[dict[str, Any]] = field(default_factory=list)
    predictor: LatencyPredictor | None = None

    def profile(self, _: Any, asked: ProfileAsked, **__: Any) -> Profile:
        self.profiled.append(asked)
        found = profile_of(asked.target, asked.space, asked.shape)
        self.predictor = LatencyPredictor(found).fit()
        return found

    def time(
        self, _: Any, models: Sequence[Any], target: Target, shape: EncoderShape, *, rounds: int
    ) -> list[Latency]:
        if self.predictor is None:
            (kept,) = self.workspace.glob("profile/*/profile.json")
            self.predictor = LatencyPredictor(Profile.load(kept)).fit()
        self.timed.append({"models": list(models), "rounds": rounds})
        shown = []
        for model in models:
            is_teacher = model == TEACHER
            ms = float(self.predictor.predict([self._architecture(model)])[0])
            p50_ms = ms if is_teacher else SLOWER * ms
            p95_ms = SLOW_MOMENTS * p50_ms if is_teacher else p50_ms
            shown.append(Latency(p50_ms, p95_ms, p50_ms, p50_ms, (p50_ms,)))
        return shown

    def _architecture(self, model: Any) -> Architecture:
        if isinstance(model, Path):  # the finished model's own file
            assert model.name == "model.onnx"
            return architecture_of(load_model(model.parent / "model")[0].config)
        assert isinstance(model, Architecture)
        return model


TEACHER = Architecture.uniform(num_layers=3, hidden_size=32, num_heads=4, intermediate_size=64)


class Place:
    """A folder with teacher, data, space, target, recipe and workspace.

    Args:
        root: the folder; what is needed is written, unless it holds that already.
        patched: replaces this machine's clock, and changes to the folder.
    """

    def __init__(self, root: Path, patched: pytest.MonkeyPatch) -> None:
        self.root, self.clock, self._patched = root, Clock(root / "workspace"), patched
        if not (root / "recipe.yaml").is_file():
            write_teacher(root / "teacher")
            config = root / "teacher" / "config.json"
            eps = {"layer_norm_eps": 0.05}  # which shows wherever it is left out
            config.write_text(json.dumps(json.loads(config.read_text()) | eps))
            write_data(root / "data")
            for name, content in (("space", SPACE), ("target", TARGET), ("recipe", RECIPE)):
                self.write(name, content)
        patched.chdir(root)
        for name in ("profile", "time"):
            shown = getattr(self.clock, name)
            patched.setattr(ThisMachine, name, lambda *a, s=shown, **k: s(*a, **k))

    def write(self, name: str, content: dict[str, Any]) -> None:
        (self.root / f"{name}.yaml").write_text(yaml.safe_dump(content))

    @contextmanager
    def changed(self, name: str, content: dict[str, Any]) -> Iterator[None]:
        """Within, a file holds something else."""
        path = self.root / f"{name}.yaml"
        before = path.read_text()
        self.write(name, content)
        try:
            yield
        finally:
            path.write_text(before)

    def search(self, latency: str, output: str, *words: str, **more: str) -> dict[str, Any]:
        """Run ``nas search`` to its end.

        Returns:
            The report in ``output``; of the first budget, if there are several.
        """
        self.command(*self.words(latency, output, *words, **more))
        return self.report(output)

    def words(self, latency: str, output: str, *words: str, **more: str) -> list[str]:
        """The command line of a search."""
        given = {
            "teacher": "teacher", "data": "data", "space": "space.yaml", "target": "target.yaml",
            "recipe": "recipe.yaml", "workspace": "workspace", "latency": latency,
            "output": output, **more,
        }  # fmt: skip
        options = [word for name, value in given.items() for word in (f"--{name}", value)]
        return ["search", *options, *words]

    def command(self, *words: str, code: int = 0) -> None:
        """Run ``nas`` in this process, which ends with ``code``."""
        self._patched.setattr(sys, "argv", ["nas", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code

    def report(self, output: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.root / output / "report.json").read_text())
        return report

    def made(self, stage: str) -> set[str]:
        folders = (self.root / "workspace" / stage).glob("*")
        return {path.name for path in folders if (path / "manifest.json").is_file()}

    def only(self, stage: str) -> Path:
        (name,) = self.made(stage)
        return self.root / "workspace" / stage / name
