"""Whole trainings of tiny models: exact resume, the sandwich rule."""

from __future__ import annotations

import multiprocessing
import os
import signal
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertForSequenceClassification

from supernet.distill.losses import hard_loss, hidden_loss, relation_loss, soft_loss
from supernet.model import Supernet
from supernet.sandwich import SandwichTrainer, sandwich, sub_network_loss
from supernet.sandwich_settings import SandwichSettings
from supernet.space import SearchSpace
from supernet.training import (
    EpochsSampler,
    computes_in_bfloat16,
    last_checkpoint,
)
from supernet.training_settings import TrainingSettings
from tests.supernet.parity import Rows, collate

KILLED = 4
"""The step in which the training is killed."""


def sandwich_trainer(
    bert: BertForSequenceClassification, space: SearchSpace, folder: Path, **options: Any
) -> SandwichTrainer:
    settings = SandwichSettings(
        training=TrainingSettings(epochs=2, learning_rate=5e-5, batch_size=8, precision="float32"),
        num_random=1,
    )
    return SandwichTrainer(
        Supernet.from_teacher(bert),
        Supernet.from_teacher(bert),
        space,
        Rows(24),
        collate,
        settings,
        folder,
        seed=3,
        **options,
    )


lengths = st.lists(st.integers(1, 60), min_size=1, max_size=200)


@given(lengths, st.integers(1, 40), st.integers(1, 3))
def test_each_epoch_sees_each_example_at_most_once(
    lengths: list[int], batch_size: int, epochs: int
) -> None:
    settings = TrainingSettings(epochs=epochs, learning_rate=1e-4, batch_size=batch_size)
    sampler = EpochsSampler(lengths, settings, seed=0)
    order = list(sampler)
    assert len(order) == len(sampler)
    epoch = len(order) // epochs
    for start in range(0, len(order), epoch):
        part = order[start : start + epoch]
        assert len(set(part)) == len(part) > len(lengths) - sampler.batch_size


def test_batches_hold_like_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, size=960)
    sampler = EpochsSampler(
        lengths.tolist(), TrainingSettings(epochs=1, learning_rate=1e-4), seed=0
    )
    batches = lengths[np.array(list(sampler))].reshape(-1, 32)
    padding = 1 - batches.sum() / (32 * batches.max(axis=1)).sum()
    assert padding < 0.1


def test_a_step_holds_largest_smallest_and_random(space: SearchSpace) -> None:
    drawn = sandwich(space, 2, np.random.default_rng(0))
    assert drawn[:2] == [space.largest, space.smallest]
    assert len(drawn) == 4
    assert all(architecture in space for architecture in drawn)


@pytest.mark.parametrize("soft_targets", ["teacher", "largest", "both"])
def test_a_step_sums_the_gradients_of_its_sub_networks(
    bert: BertForSequenceClassification, space: SearchSpace, tmp_path: Path, soft_targets: Any
) -> None:
    """Against autograd on a plain sum of the losses, without the trainer.

    The teacher is another model than the largest sub-network, so that it counts who is imitated.
    """
    teacher_bert = deepcopy(bert)
    with torch.no_grad():
        for parameter in teacher_bert.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    settings = SandwichSettings(
        training=TrainingSettings(epochs=2, learning_rate=5e-5, batch_size=8, precision="float32"),
        num_random=1,
        soft_targets=soft_targets,
        temperature=1.5,
        soft_weight=0.7,
        hard_weight=0.4,
        hidden_weight=0.2,
        relation_weight=0.3,
    )
    trainer = SandwichTrainer(
        Supernet.from_teacher(bert), Supernet.from_teacher(teacher_bert), space, Rows(24), collate,
        settings, tmp_path, seed=3,
    )  # fmt: skip
    batch = collate([trainer.train_dataset[index] for index in range(8)])
    found = trainer.training_step(trainer.model, dict(batch))

    supernet = Supernet.from_teacher(bert)
    labels, mask = batch.pop("labels"), batch["attention_mask"]
    with torch.no_grad():
        teacher = Supernet.from_teacher(teacher_bert)(**batch)
        largest = supernet(**batch, architecture=space.largest).logits
    losses = []
    for architecture in sandwich(space, 1, trainer.step_rng()):
        output = supernet(**batch, architecture=architecture)
        imitated = [teacher.logits]
        if losses and soft_targets != "teacher":
            imitated = [largest] if soft_targets == "largest" else [teacher.logits, largest]
        soft = sum(soft_loss(output.logits, one, 1.5) for one in imitated) / len(imitated)
        width, depth = architecture.hidden_size, architecture.num_layers
        hidden = [
            hidden_loss(
                output.hidden_states[at], teacher.hidden_states[at * 2 // depth][..., :width], mask
            )
            for at in range(depth + 1)
        ]
        relations = [
            relation_loss(mine, theirs, mask)
            for mine, theirs in zip(output.attentions[-1], teacher.attentions[-1], strict=True)
        ]
        losses.append(
            0.7 * soft
            + 0.4 * hard_loss(output.logits, labels)
            + 0.2 * sum(hidden) / len(hidden)
            + 0.3 * sum(relations) / 3
        )
    sum(losses).backward()
    assert found.item() == pytest.approx(sum(loss.item() for loss in losses) / 3, rel=1e-5)
    for ours, expected in zip(trainer.model.parameters(), supernet.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, atol=1e-5, rtol=1e-4)


def test_sandwich_training_teaches_small_sub_networks(
    bert: BertForSequenceClassification, space: SearchSpace, tmp_path: Path
) -> None:
    """The smallest imitates the teacher better after training than before."""
    trainer = sandwich_trainer(bert, space, tmp_path)
    batch = collate([trainer.train_dataset[index] for index in range(24)])
    labels = batch.pop("labels")
    teacher = trainer.teacher(**batch)

    def loss() -> float:
        with torch.no_grad():
            output = trainer.model(**batch, architecture=space.smallest)
            return sub_network_loss(
                output,
                (teacher.logits,),
                teacher,
                batch["attention_mask"],
                labels,
                SandwichSettings(),
            ).item()

    before = loss()
    trainer.run()
    assert loss() < before


def train_to_the_end(folder: Path, *, killed_at: int | None) -> None:
    """Train, and kill this process in a step; a checkpoint stands from each step before it."""
    from tests.supernet.conftest import tiny_space

    torch.manual_seed(0)
    torch.set_num_threads(1)
    from transformers import BertConfig

    config = BertConfig(
        vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=24,
    )  # fmt: skip
    bert = BertForSequenceClassification(config)

    def progress(step: int, _steps: int) -> None:
        if step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer = sandwich_trainer(
        bert, tiny_space(True), folder, progress=progress, checkpoint_every=0.0
    )
    trainer.run()
    trainer.model.save_pretrained(folder / "end")


def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([__name__])

    def run(folder: Path, killed: int | None) -> int | None:
        process = forks.Process(
            target=train_to_the_end, args=(folder,), kwargs={"killed_at": killed}
        )
        process.start()
        process.join()
        return process.exitcode

    assert run(tmp_path / "killed", KILLED) == -signal.SIGKILL
    checkpoint = last_checkpoint(tmp_path / "killed" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == f"checkpoint-{KILLED - 1}"
    (checkpoint.with_name("checkpoint-99")).mkdir()  # one that was cut short
    assert run(tmp_path / "killed", None) == 0
    assert run(tmp_path / "undisturbed", None) == 0
    ends = [
        Supernet.from_pretrained(tmp_path / name / "end").state_dict()
        for name in ("killed", "undisturbed")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(
    ("able", "maker", "expected"),
    [
        ({}, "AuthenticAMD", False),
        ({"avx512_bf16": True}, "AuthenticAMD", True),
        ({"avx512_bf16": True}, "GenuineIntel", False),
        ({"avx512_bf16": True, "amx_bf16": True}, "GenuineIntel", True),
    ],
)
def test_bfloat16_is_for_processors_that_are_faster_in_it(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], maker: str, expected: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _: f"vendor_id : {maker}")
    assert computes_in_bfloat16() == expected


def test_a_processor_whose_maker_is_unknown_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr(Path, "read_text", missing)
    assert not computes_in_bfloat16()
