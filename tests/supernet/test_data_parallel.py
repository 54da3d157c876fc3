"""A sandwich step shared by two processes, against autograd in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback

from supernet.model import Supernet
from supernet.sandwich import SandwichTrainer, sandwich, sub_network_loss
from supernet.sandwich_settings import SandwichSettings
from supernet.training_settings import TrainingSettings
from tests.ports import free_port
from tests.supernet.conftest import tiny_space
from tests.supernet.parity import Rows, collate

SEED = 3
BATCH = 8
SPACE = tiny_space(uniform=False)
TRAINING = TrainingSettings(
    steps=3, learning_rate=1e-3, batch_size=BATCH, max_grad_norm=0, precision="float32"
)
LOSSES = {
    "predictions": SandwichSettings(TRAINING),
    "relations": SandwichSettings(TRAINING, soft_weight=0, hard_weight=0, relation_weight=1),
}
"""Relations leave the last layer's neurons, the pooler and the classifier without gradients."""


def new_trainer(settings: SandwichSettings, folder: Path) -> SandwichTrainer:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=24, initializer_range=0.3,
    )  # fmt: skip
    bert = BertForSequenceClassification(config)
    supernet, teacher = Supernet(bert), Supernet.from_teacher(bert)
    return SandwichTrainer(supernet, teacher, SPACE, Rows(24), collate, settings, folder, seed=SEED)


class KeepGradients(TrainerCallback):
    """Copies the gradients of the first step; None where there is none."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self.gradients = {
                name: None if weight.grad is None else weight.grad.clone()
                for name, weight in kwargs["model"].named_parameters()
            }


def train_as_one_of_several(folder: Path) -> None:
    """Train by each loss, and save the gradients of the first step and the weights at the end."""
    for name, settings in LOSSES.items():
        trainer = new_trainer(settings, folder / name)
        keep = KeepGradients()
        trainer.add_callback(keep)
        trainer.run()
        weights = trainer.model.state_dict()
        rank = trainer.args.process_index
        torch.save({"gradients": keep.gradients, "weights": weights}, folder / f"{name}-{rank}.pt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have trained together."""
    folder = tmp_path_factory.mktemp("trained")
    code = (
        "from pathlib import Path; import tests.supernet.test_data_parallel as here;"
        f"here.train_as_one_of_several(Path({str(folder)!r}))"
    )
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_sums_over_sub_networks_and_means_over_processes(
    trained: Path, tmp_path: Path, loss: str
) -> None:
    settings = LOSSES[loss]
    trainer = new_trainer(settings, tmp_path)
    supernet, rows = trainer.model, list(trainer.sampler)[:BATCH]
    total = torch.zeros(())
    for rank, share in enumerate((rows[: BATCH // 2], rows[BATCH // 2 :])):
        batch = collate([trainer.train_dataset[row] for row in share])
        labels = batch.pop("labels")
        with torch.no_grad():
            teacher = trainer.teacher(**batch)
        for architecture in sandwich(
            SPACE, settings.num_random, np.random.default_rng((SEED, 0, rank))
        ):
            output = supernet(**batch, architecture=architecture)
            total = total + sub_network_loss(
                output, (teacher.logits,), teacher, batch["attention_mask"], labels, settings
            )
    (total / 2).backward()
    for rank in range(2):
        gradients = torch.load(trained / f"{loss}-{rank}.pt")["gradients"]
        for name, weight in supernet.named_parameters():
            if weight.grad is None:
                assert gradients[name] is None
            else:
                torch.testing.assert_close(gradients[name], weight.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_processes_end_with_equal_weights(trained: Path, tmp_path: Path, loss: str) -> None:
    first, second = (torch.load(trained / f"{loss}-{rank}.pt")["weights"] for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    begun = new_trainer(LOSSES[loss], tmp_path).model.state_dict()
    assert any(not torch.equal(first[name], begun[name]) for name in first)
