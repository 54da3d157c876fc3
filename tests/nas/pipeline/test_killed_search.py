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

STAGES = ("supernet", "racer", "student")
"""Those that train a student or a supernet.

That a stage resumes exactly, wherever it is killed, is tested with that stage (the profile, the
search, the trainers, the race) and with a stub in tests/nas/store/test_workspace.py.
"""
LAST_STEP = 3
RACED = RECIPE | {
    "finetune": RECIPE["finetune"] | {"epochs": 2},
    "race": {"finalists": 2, "rungs": [LAST_STEP]},
}
WANTED = ("1.5x", "result")


class Killer(TrainerCallback):
    """Kills this process as it takes a step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == LAST_STEP:
            os.kill(os.getpid(), signal.SIGKILL)


def search_until(stage: str, root: Path) -> None:
    """Search, and be killed when a training of a stage takes its last step but none before."""
    with pytest.MonkeyPatch.context() as patched:
        place = Place(root, patched)
        begin = ResumableTrainer.__init__

        def begin_with_killer(self: Any, *args: Any, **options: Any) -> None:
            begin(self, *args, **options | {"checkpoint_every": 0.0})
            if stage in self.checkpoints.parts:
                self.add_callback(Killer())

        patched.setattr(ResumableTrainer, "__init__", begin_with_killer)
        place.command(*place.words(*WANTED))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path, monkeypatch)
    place.write("recipe", RACED)
    return place


def test_a_search_killed_again_and_again_ends_as_an_undisturbed_one(place: Place) -> None:
    """Killed in one stage, started again and killed in the next, and so on."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.nas.pipeline.test_killed_search"])
    for stage in STAGES:
        process = processes.Process(target=search_until, args=(stage, place.root))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        partial = list((place.root / "workspace").rglob("checkpoint-*/trainer_state.json"))
        assert [stage in path.parts for path in partial] == [True] * len(partial) != []
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
