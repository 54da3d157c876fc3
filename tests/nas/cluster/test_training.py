"""A supernet trained by two workers of a real Ray cluster, one of which is killed."""

from __future__ import annotations

import os
import signal
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from transformers import BertConfig, BertForSequenceClassification

from supernet.errors import NasError
from supernet.model import Supernet
from supernet.sandwich import SandwichTrainer
from supernet.sandwich_settings import SandwichSettings
from supernet.training_settings import TrainingSettings
from tests.supernet.conftest import tiny_space
from tests.supernet.parity import Row, Rows, collate

pytest.importorskip("ray")

SETTINGS = SandwichSettings(
    training=TrainingSettings(epochs=2, learning_rate=1e-3, batch_size=8, precision="float32"),
    num_random=0,
)
"""Without random sub-networks, all processes train the same ones, as one process does."""


@pytest.fixture
def teacher() -> Supernet:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=24, initializer_range=0.3,
    )  # fmt: skip
    return Supernet(BertForSequenceClassification(config))


@dataclass
class KilledOnce:
    """Collates; the second worker is killed once, on its fifth batch."""

    killed: Path
    batches: int = 0

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        self.batches += 1
        if dist.get_rank() == 1 and self.batches == 5 and not self.killed.exists():
            self.killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return collate(rows)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_two_workers_of_whom_one_is_killed_train_as_one_process_does(
    teacher: Supernet, tmp_path: Path
) -> None:
    from nas.cluster.training import train_distributed

    ctrl_c = signal.getsignal(signal.SIGINT)
    here, there = deepcopy(teacher), deepcopy(teacher)
    lesson = (deepcopy(teacher), tiny_space(uniform=True), Rows(26))
    SandwichTrainer(here, *lesson, collate, SETTINGS, tmp_path / "here", seed=3).run()
    steps: list[int] = []
    train_distributed(
        there, *lesson, KilledOnce(tmp_path / "killed"), SETTINGS, tmp_path / "there",
        seed=3, workers=2, restarts=1, checkpoint_every=0.0,
        progress=lambda done, total: steps.append(done),
    )  # fmt: skip

    assert signal.getsignal(signal.SIGINT) is ctrl_c, "Ray Train has taken Ctrl-C"
    assert (tmp_path / "killed").exists()
    assert set(steps) == set(range(1, 7))
    assert steps.count(1) == 1, "the second attempt went on from a checkpoint"
    learnt = teacher.state_dict()
    for name, weight in here.state_dict().items():
        if not name.endswith("key.bias"):  # has no gradient but rounding, which Adam blows up
            torch.testing.assert_close(there.state_dict()[name], weight, atol=1e-5, rtol=1e-4)
            assert name.endswith("position_ids") or not torch.equal(weight, learnt[name])


def test_a_batch_that_workers_cannot_share_is_refused(teacher: Supernet, tmp_path: Path) -> None:
    from nas.cluster.training import train_distributed

    with pytest.raises(NasError, match=r"batch_size must be a multiple of the 3 processes.* not 8"):
        train_distributed(
            teacher, teacher, tiny_space(uniform=True), Rows(24), collate, SETTINGS, tmp_path,
            seed=3, workers=3,
        )  # fmt: skip
