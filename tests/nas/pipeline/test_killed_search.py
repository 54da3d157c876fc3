"""A search that is killed in one stage after another ends as an undisturbed one.

Each run that is killed is a process of its own, with a checkpoint of each training step.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from supernet.training import ResumableTrainer
from tests.nas.pipeline.small_search import RECIPE, Place

pytestmark = pytest.mark.slow

TRAININGS = ("first", "task", "racer", "student")
"""Folders in which a run trains: the teacher's first training, a supernet's second, a rung of the
race, the student.

That a stage resumes exactly, wherever it is killed, is tested with that stage (the profile, the
search, the trainers, the race) and with a stub in tests/nas/store/test_workspace.py.
"""
KILLED_AT = 3
RACED = RECIPE | {
    "finetune": RECIPE["finetune"] | {"epochs": 2},
    "general": {
        "texts": "data",
        "limit": 64,
        "settings": {
            "training": {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3},
            "num_random": 1,
            "soft_weight": 0.0,
            "relation_weight": 1.0,
        },
    },
    "race": {"finalists": 2, "rungs": [KILLED_AT]},
}
WANTED = ("1.5x", "result")


class Killer(TrainerCallback):
    """Kills this process at the end of step ``KILLED_AT``, before its checkpoint is written."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)


def search_until(training: str, root: Path) -> None:
    """Search, and be killed in the first training within a folder of this name."""
    with pytest.MonkeyPatch.context() as patched:
        place = Place(root, patched)
        begin = ResumableTrainer.__init__

        def begin_with_killer(self: Any, *args: Any, **options: Any) -> None:
            begin(self, *args, **options | {"checkpoint_every": 0.0})
            if training in self.checkpoints.parts:
                self.add_callback(Killer())

        patched.setattr(ResumableTrainer, "__init__", begin_with_killer)
        place.command(*place.words(*WANTED))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path, monkeypatch)
    place.write("recipe", RACED)
    return place


def test_a_search_killed_again_and_again_ends_as_an_undisturbed_one(place: Place) -> None:
    """Killed in one training, started again and killed in the next, and so on."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["nas.pipeline.pipeline"])
    for training in TRAININGS:
        process = processes.Process(target=search_until, args=(training, place.root))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kept = (place.root / "workspace").rglob("checkpoint-*/trainer_state.json")
        assert any(training in path.parts for path in kept)
    assert not (place.root / "result").exists()
    resumed = place.search(*WANTED)

    undisturbed = place.search("1.5x", "undisturbed", workspace="another")
    for key in ("architecture", "evaluations", "race", "score"):
        assert resumed[key] == undisturbed[key]
    ours, theirs = (
        (place.root / folder / "model" / "model.safetensors").read_bytes()
        for folder in ("result", "undisturbed")
    )
    assert ours == theirs
