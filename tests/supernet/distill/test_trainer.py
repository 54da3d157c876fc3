"""Whole distillations of tiny students."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification, PreTrainedModel, TrainerCallback

from supernet.architecture import Architecture, Layer
from supernet.distill.losses import (
    attention_loss,
    hard_loss,
    hidden_loss,
    relation_loss,
    soft_loss,
)
from supernet.distill.masked_words import Masking
from supernet.distill.mixkd import Mixture
from supernet.distill.stage import DistillStage, Losses, Mixup, Replacement
from supernet.distill.teacher_outputs import Compared
from supernet.distill.trainer import (
    DistillTrainer,
    Learner,
    Projection,
    compared,
    stage_losses,
)
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.observe import observe
from supernet.training_settings import TrainingSettings
from tests.supernet.parity import Rows, collate

SMALL = Architecture.uniform(
    num_layers=1, hidden_size=16, num_heads=2, qkv_size=16, intermediate_size=32
)
HALF = Architecture.uniform(num_layers=1, hidden_size=32, num_heads=4, intermediate_size=64)
UNEVEN = Architecture(16, (Layer(2, 8, 24), Layer(1, 4, 16)))
TRAINING = TrainingSettings(epochs=40, batch_size=8, learning_rate=2e-3)
EXACT = replace(TRAINING, precision="float32")


def stage(**options: Any) -> DistillStage:
    return DistillStage(**({"name": "distil", "training": TRAINING} | options))


def trainer(
    student: PreTrainedModel, teacher: BertForSequenceClassification, of: DistillStage, folder: Path
) -> DistillTrainer:
    masking = Masking(mask_id=4, special=torch.arange(120) < 5)
    torch.manual_seed(0)
    learner = Learner(student, teacher.config.hidden_size)
    return DistillTrainer(learner, teacher, Rows(48), collate, of, folder, seed=0, masking=masking)


def batch() -> dict[str, torch.Tensor]:
    rows = Rows(48)
    return collate([rows[index] for index in range(48)])


@pytest.mark.parametrize(
    ("losses", "layers", "own", "theirs"),
    [
        (Losses(soft=1.0), "all", Compared(), Compared()),
        (Losses(hidden=1.0), "all", Compared((0, 1, 2, 3)), Compared((0, 2, 4, 6))),
        (Losses(hidden=1.0), "last", Compared((3,)), Compared((6,))),
        (Losses(attention=1.0), "all", Compared((), (0, 1, 2)), Compared((), (1, 3, 5))),
        (Losses(relation=1.0, hidden=1.0), "last", Compared((3,), (2,)), Compared((6,), (5,))),
    ],
)
def test_what_is_compared(losses: Losses, layers: str, own: Compared, theirs: Compared) -> None:
    assert compared(stage(losses=losses, layers=layers), 3, 6) == (own, theirs)


def test_a_projection_begins_as_the_identity() -> None:
    states = torch.randn(3, 4)
    assert torch.equal(Projection(4, 6)(states)[:, :4], states)
    assert Projection(4, 6)(states)[:, 4:].abs().max() == 0
    assert torch.equal(Projection(4, 3)(states), states[:, :3])


@pytest.mark.parametrize("layers", ["all", "last"])
def test_states_are_compared_with_those_at_the_same_depth(
    bert: BertForSequenceClassification, layers: str
) -> None:
    inputs = {k: v for k, v in batch().items() if k != "labels"}
    mask = inputs["attention_mask"]
    student, teacher = (
        observe(bert, inputs),
        observe(bert, (inputs | {"input_ids": inputs["input_ids"].flip(0)})),
    )
    of = stage(losses=Losses(hidden=1.0, attention=1.0, relation=1.0), layers=layers)
    own, theirs = compared(of, 2, 2)
    found = stage_losses(of, own.of(student), theirs.of(teacher), mask, None)
    each = [
        hidden_loss(mine, theirs, mask).item()
        for mine, theirs in zip(student.hidden_states, teacher.hidden_states, strict=True)
    ]
    expected = np.mean(each) if layers == "all" else each[-1]
    assert found["hidden"].item() == pytest.approx(expected, rel=1e-5)
    assert set(found) == {"hidden", "attention", "relation"}
    assert all(loss > 0 for loss in found.values())
    same = stage_losses(of, own.of(teacher), theirs.of(teacher), mask, None)
    assert max(loss.item() for loss in same.values()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "of",
    [
        stage(losses=Losses(soft=1.0), temperature=2.0),
        stage(losses=Losses(hidden=1.0, attention=1.0, relation=1.0, soft=1.0)),
        stage(mixup=Mixup(student_weight=0.0)),
        stage(mixup=Mixup(student_weight=0.0, distance="kl"), losses=Losses(hidden=1.0)),
    ],
    ids=["soft", "all", "mixed", "mixed with hidden"],
)
def test_distillation_brings_a_student_to_its_teacher(
    bert: BertForSequenceClassification,
    of: DistillStage,
    tmp_path: Path,
) -> None:
    student = Supernet.from_teacher(bert).extract(UNEVEN)
    inputs = {k: v for k, v in batch().items() if k != "labels"}

    def distance() -> float:
        with torch.no_grad():
            return soft_loss(student(**inputs).logits, bert(**inputs).logits, 1.0).item()

    before = distance()
    trainer(student, bert, of, tmp_path).run()
    assert distance() < 0.5 * before


@pytest.mark.parametrize("architecture", [SMALL, UNEVEN])
@pytest.mark.parametrize("layers", ["all", "last"])
def test_a_step_follows_the_weighted_sum_of_its_losses(
    bert: BertForSequenceClassification, architecture: Architecture, layers: str, tmp_path: Path
) -> None:
    """The gradient of a step against that of a sum written here, every weight a different one."""
    weights = Losses(hard=0.3, soft=0.7, hidden=1.1, attention=0.4, relation=0.6)
    student = Supernet.from_teacher(bert).extract(architecture)
    at_work = trainer(
        student,
        bert,
        stage(training=EXACT, losses=weights, temperature=2.0, layers=layers),
        tmp_path,
    )
    randomize(at_work.learner.projection)
    expected = deepcopy(at_work.learner)
    given = at_work.data_collator([at_work.train_dataset[row] for row in range(8)])
    loss = one_step(at_work, given)

    inputs = {name: given[name] for name in ("input_ids", "attention_mask")}
    mask = inputs["attention_mask"]
    own = observe(expected.student, inputs)
    with torch.no_grad():
        theirs = observe(bert, inputs)
    depth = architecture.num_layers
    states = [
        hidden_loss(
            expected.projection(own.hidden_states[at]), theirs.hidden_states[at * 2 // depth], mask
        )
        for at in (range(depth + 1) if layers == "all" else [depth])
    ]
    scores = [
        attention_loss(own.attentions[at - 1][:2], theirs.attentions[at * 2 // depth - 1][:2], mask)
        for at in (range(1, depth + 1) if layers == "all" else [depth])
    ]
    relations = [
        relation_loss(mine, other, mask)
        for mine, other in zip(own.attentions[-1], theirs.attentions[-1], strict=True)
    ]
    total = (
        0.3 * hard_loss(own.logits, given["labels"])
        + 0.7 * soft_loss(own.logits, theirs.logits, 2.0)
        + 1.1 * sum(states) / len(states)
        + 0.4 * sum(scores) / len(scores)
        + 0.6 * sum(relations) / 3
    )
    total.backward()
    assert loss.item() == pytest.approx(total.item(), rel=1e-5)
    same_gradients(at_work.learner, expected)
    assert not any(parameter.requires_grad for parameter in at_work.teacher.parameters())


@pytest.mark.parametrize("closeness", ["mse", "kl"])
def test_a_step_on_mixtures_follows_both_losses(
    bert: BertForSequenceClassification, closeness: Any, tmp_path: Path
) -> None:
    """Words mixed by the step's own pairs, the labels of both, and the teacher on the mixtures."""
    mixup = Mixup(alpha=0.7, student_weight=0.6, teacher_weight=1.7, distance=closeness)
    student = Supernet.from_teacher(bert).extract(UNEVEN)
    of = stage(training=EXACT, losses=Losses(hard=0.3), mixup=mixup, temperature=2.0)
    at_work = trainer(student, bert, of, tmp_path)
    expected = deepcopy(at_work.learner.student)
    given = at_work.data_collator([at_work.train_dataset[row] for row in range(8)])
    one_step(at_work, given)

    inputs, labels = (
        {name: given[name] for name in ("input_ids", "attention_mask")},
        given["labels"],
    )
    mixture = Mixture.draw(8, 0.7, at_work.step_rng())
    mixed = inputs | {"attention_mask": mixture.mask(inputs["attention_mask"])}

    def logits(model: Any) -> torch.Tensor:
        table = model.bert.embeddings.word_embeddings
        own, other = table(inputs["input_ids"]), table(inputs["input_ids"][mixture.partner])
        ratio = mixture.ratio[:, None, None]
        return observe(model, mixed, words=ratio * own + (1 - ratio) * other).logits

    mine = logits(expected)
    with torch.no_grad():
        theirs = logits(bert)
    apart = (mine - theirs).square().mean() if closeness == "mse" else soft_loss(mine, theirs, 2.0)
    each = torch.nn.functional.cross_entropy(mine, labels, reduction="none")
    others = torch.nn.functional.cross_entropy(mine, labels[mixture.partner], reduction="none")
    hard = (mixture.ratio * each + (1 - mixture.ratio) * others).mean()
    plain = torch.nn.functional.cross_entropy(observe(expected, inputs).logits, labels)
    (0.3 * plain + 0.6 * hard + 1.7 * apart).backward()
    same_gradients(at_work.learner.student, expected)


def test_a_step_on_masked_words_predicts_those_that_were_hidden(
    bert: BertForSequenceClassification, tmp_path: Path
) -> None:
    student = Supernet.from_teacher(bert).extract(UNEVEN)
    of = stage(training=EXACT, losses=Losses(mlm=0.8), data="unlabelled")
    at_work = trainer(student, bert, of, tmp_path)
    randomize(at_work.learner.word_head)
    expected = deepcopy(at_work.learner)
    given = at_work.data_collator([at_work.train_dataset[row] for row in range(8)])
    one_step(at_work, given)

    assert at_work.masking is not None
    hidden, predicted = at_work.masking.apply(given["input_ids"], at_work.step_rng())
    inputs = {"input_ids": hidden, "attention_mask": given["attention_mask"]}
    states = observe(expected.student, inputs).hidden_states[-1][predicted]
    words = expected.word_head(states, expected.student.bert.embeddings.word_embeddings.weight)
    loss = torch.nn.functional.cross_entropy(words, given["input_ids"][predicted])
    (0.8 * loss).backward()
    same_gradients(at_work.learner, expected)


def one_step(at_work: DistillTrainer, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """A step's loss; its gradients stay on the parameters."""
    at_work.current_gradient_accumulation_steps = 1  # which the Trainer sets as it begins
    return at_work.training_step(at_work.model, dict(given))


def randomize(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))


def same_gradients(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    others = dict(expected.named_parameters())
    moved = 0
    for name, parameter in found.named_parameters():
        if others[name].grad is None:
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        torch.testing.assert_close(parameter.grad, others[name].grad, atol=1e-5, rtol=1e-4)
        moved += bool(parameter.grad.any())
    assert moved > 20


def test_labels_alone_teach_the_task(bert: BertForSequenceClassification, tmp_path: Path) -> None:
    student = Supernet.from_teacher(bert).extract(SMALL)
    trainer(student, bert, stage(losses=Losses(hard=1.0)), tmp_path).run()
    given = batch()
    labels = given.pop("labels")
    assert (student.eval()(**given).logits.argmax(dim=1) == labels).float().mean() > 0.9


def test_masked_words_are_learnt_without_labels_or_teacher(
    bert: BertForSequenceClassification, tmp_path: Path
) -> None:
    student = Supernet.from_teacher(bert).extract(SMALL)
    of = stage(losses=Losses(mlm=1.0), data="unlabelled")
    at_work = trainer(student, bert, of, tmp_path)
    given = batch()
    del given["labels"]

    def loss() -> float:
        assert at_work.masking is not None
        hidden, predicted = at_work.masking.apply(given["input_ids"], np.random.default_rng(0))
        with torch.no_grad():
            _, words = at_work.model(predicted=predicted, **(given | {"input_ids": hidden}))
        return torch.nn.functional.cross_entropy(words, given["input_ids"][predicted]).item()

    before = loss()
    at_work.run()
    assert loss() < before - 0.3


def test_replacement_trains_the_students_layers_alone(
    bert: BertForSequenceClassification, tmp_path: Path
) -> None:
    student = Supernet.from_teacher(bert).extract(HALF)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    of = stage(losses=Losses(hard=1.0), replacement=Replacement(0.3, 1e-2), trained="layers")
    teacher = {name: value.clone() for name, value in bert.state_dict().items()}
    trainer(student, bert, of, tmp_path).run()
    changed = {
        name.startswith("bert.encoder.layer.")
        for name, value in student.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {True}
    assert all(torch.equal(value, teacher[name]) for name, value in bert.state_dict().items())
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_a_narrower_student_cannot_replace(
    bert: BertForSequenceClassification, tmp_path: Path
) -> None:
    student = Supernet.from_teacher(bert).extract(SMALL)
    of = stage(losses=Losses(hard=1.0), replacement=Replacement())
    with pytest.raises(NasError, match="hidden size must be the teacher's 32, not 16"):
        trainer(student, bert, of, tmp_path)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"losses": Losses()}, "no loss has a weight"),
        ({"losses": Losses(hard=1.0), "data": "unlabelled"}, "teach nothing by labels alone"),
        ({"losses": Losses(hard=1.0), "name": "../up"}, "stage name '../up'"),
        ({"losses": Losses(soft=1.0), "temperature": 0}, "temperature"),
        (
            {"losses": Losses(hard=1.0, hidden=1.0), "replacement": Replacement()},
            "with a replacement, hard, soft and mlm are the only losses",
        ),
        ({"losses": Losses(soft=1.0), "reference_width": 0}, "reference_width"),
        (
            {"mixup": Mixup(teacher_weight=0.0), "data": "unlabelled"},
            "teach nothing by labels alone",
        ),
    ],
)
def test_stages_that_make_no_sense_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(NasError, match=named):
        stage(**options)


def test_the_learning_rate_is_for_the_reference_width() -> None:
    of = stage(losses=Losses(soft=1.0), reference_width=256)
    assert of.learning_rate(128) == pytest.approx(2 * TRAINING.learning_rate)
    assert stage(losses=Losses(soft=1.0)).learning_rate(128) == TRAINING.learning_rate


class StoppedError(Exception):
    """A training is interrupted."""


@pytest.mark.parametrize(
    "options",
    [
        {"losses": Losses(soft=1.0, hidden=1.0, attention=1.0, relation=1.0)},
        {"losses": Losses(hard=1.0), "mixup": Mixup()},
        {"losses": Losses(mlm=1.0), "data": "unlabelled"},
        {"losses": Losses(hard=1.0), "replacement": Replacement(), "trained": "layers"},
    ],
    ids=["kept outputs", "mixtures", "masks", "replacement"],
)
def test_a_stopped_training_ends_as_an_undisturbed_one(
    bert: BertForSequenceClassification, tmp_path: Path, options: dict[str, Any]
) -> None:
    of = stage(training=TrainingSettings(epochs=2, batch_size=8, learning_rate=1e-3), **options)

    def train(folder: Path, stopped_at: int | None) -> dict[str, torch.Tensor]:
        student = Supernet.from_teacher(bert).extract(HALF)
        at_work = trainer(student, bert, of, folder)

        class Stop(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step == stopped_at:
                    raise StoppedError

        for callback in at_work.callback_handler.callbacks:
            if hasattr(callback, "every"):
                callback.every = 0.0  # a checkpoint each step
        at_work.add_callback(Stop())
        at_work.run()
        return at_work.learner.state_dict()

    undisturbed = train(tmp_path / "undisturbed", None)
    with pytest.raises(StoppedError):
        train(tmp_path / "stopped", 7)
    resumed = train(tmp_path / "stopped", None)
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in undisturbed)


def test_a_training_learns_the_same_from_kept_outputs(
    bert: BertForSequenceClassification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = stage(
        losses=Losses(soft=1.0, hidden=1.0, attention=1.0),
        training=TrainingSettings(epochs=3, batch_size=8, learning_rate=1e-3),
    )
    ends = []
    for limit in (2**30, 0):
        monkeypatch.setattr("supernet.distill.trainer.MEMORY_LIMIT", limit)
        student = Supernet.from_teacher(bert).extract(SMALL)
        at_work = trainer(student, bert, of, tmp_path / str(limit))
        at_work.run()
        assert (at_work.outputs is not None) == (limit > 0)
        given = batch()
        del given["labels"]
        ends.append(student.eval()(**given).logits)
    torch.testing.assert_close(ends[0], ends[1], atol=2e-2, rtol=2e-2)
