"""Races in training: who goes on, from which weights, and after a kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nas.models.evaluate import quickly
from nas.pipeline.guide import Guide
from nas.pipeline.learning import read_score
from nas.pipeline.pipeline import Groundwork
from nas.pipeline.race import Racer, race, within_reach
from nas.pipeline.rung import LEARNER, LocalRungRunner, Rung, RungRunner, validation_quality_of
from nas.pipeline.student_training import StudentTraining
from nas.store.result_folder import MODEL
from supernet.architecture import Architecture
from supernet.distill.evidence import bytes_kept
from tests.nas.learnt import ground_in

FINALISTS = [
    Architecture.uniform(
        num_layers=layers, hidden_size=hidden, num_heads=2, qkv_size=16, intermediate_size=size
    )
    for layers, hidden, size in ((1, 32, 64), (2, 16, 32), (3, 8, 16))
]


class Made:
    """All that a race needs."""

    def __init__(self, folder: Path) -> None:
        self.ground: Groundwork = ground_in(folder)
        self.lesson, self.bench = self.ground.lesson, self.ground.bench
        self.teacher, self.task, self.guide = (
            self.ground.teacher, self.ground.task, self.ground.guide,
        )  # fmt: skip
        self.training = StudentTraining(
            self.guide, self.task, self.lesson.recipe.distill, self.lesson.seed, self.bench.display
        )

    def race(self, runner: RungRunner | None = None) -> list[Racer]:
        settings = self.lesson.recipe.race
        assert settings is not None
        runner = runner or LocalRungRunner(self.training)
        return race(
            self.lesson, settings, FINALISTS, self.teacher, self.task, self.guide, runner,
            self.bench,
        )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("race")


@pytest.fixture(scope="module")
def made(folder: Path) -> Made:
    return Made(folder)


@pytest.fixture(scope="module")
def ran(made: Made) -> list[Racer]:
    return made.race()


def test_the_better_half_goes_on_and_the_winner_comes_first(ran: list[Racer]) -> None:
    assert {racer.architecture for racer in ran} == set(FINALISTS)
    assert [len(racer.rungs) for racer in ran] == [3, 3, 2], "two of three go on"
    first, second, third = ran
    assert first.best >= second.best
    assert min(max(racer.qualities[:2]) for racer in (first, second)) >= third.best
    for racer in ran:
        assert len(racer.qualities) == len(racer.scores) == len(racer.rungs)


def test_a_rungs_key_is_made_from_what_it_always_was(ran: list[Racer]) -> None:
    """With other names nobody's rungs would be found again."""
    manifest = json.loads((ran[0].rungs[0].path / "manifest.json").read_text())
    assert " ".join(sorted(manifest["inputs"])) == (
        "architecture before checks data edition fit_examples importance_examples judged "
        "max_length metric seed stage teacher"
    )


@pytest.mark.parametrize(
    ("fitted", "examples", "trained"),
    [
        ([0.6, 0.9, 0.76], 10_000, [0.9, 0.76]),  # the teacher has 1.0: the best lacks 0.1
        ([0.99, 0.9, 0.7], 100, [0.99, 0.9]),  # what the best lacks is less than qualities err
        ([0.99, 0.9, 0.7], 1_000_000, [0.99]),
        ([1.02, 0.5], 10_000, [1.02]),
    ],
)
def test_those_without_a_chance_are_not_trained(
    fitted: list[float], examples: int, trained: list[float]
) -> None:
    racers = [
        Racer(architecture, qualities=(quality,))
        for architecture, quality in zip(FINALISTS, fitted, strict=False)
    ]
    near, far = within_reach(racers, 1.0, examples)
    assert [racer.best for racer in near] == trained
    assert [racer.best for racer in far] == sorted(set(fitted) - set(trained), reverse=True)


def test_training_never_loses(made: Made, ran: list[Racer]) -> None:
    """Each rung, and the winner's own distillation, ends at least as good as it began, on what
    tells its best weights.
    """
    for racer in ran:
        student = made.guide.supernet.blank(racer.architecture)
        qualities = []
        for rung in racer.rungs:
            made.training.learner(student, begun=rung.path / LEARNER)
            with quickly(student.device):
                qualities.append(made.training.validation_quality(student.eval())())
            assert validation_quality_of(rung.path / LEARNER) == pytest.approx(qualities[-1])
        assert qualities == sorted(qualities)
    student = made.ground.distilled(ran[0].beginning())
    teacher = read_score(made.teacher, made.task.data.task, "validation")
    found = read_score(student, made.task.data.task, "validation")
    assert found > 0.5 * teacher


def test_training_leaves_words_that_no_text_has_as_they_were_fitted(
    made: Made, ran: list[Racer], tmp_path: Path
) -> None:
    """Also with weight decay, which would shrink them."""
    student = made.guide.supernet.blank(ran[0].architecture)
    learner = made.training.learner(student, begun=ran[0].rungs[0].path / LEARNER)
    table = student.bert.embeddings.word_embeddings
    fitted = table.weight.detach().clone()
    made.training.run(
        learner, made.training.recipe.stages, lambda _: made.task.train, tmp_path, checks=0
    )
    assert student.bert.embeddings.word_embeddings is table
    same = (fitted == table.weight).all(dim=1)
    assert same[made.task.tokenizer.convert_tokens_to_ids(["[UNK]", "[MASK]"])].all()
    assert not same[made.task.train.columns["input_ids"][0]].any()


@pytest.mark.parametrize(("checks", "looks"), [(3, 1), (0, 0)])
def test_a_rung_is_looked_at_once_when_it_ends(
    made: Made,
    ran: list[Racer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checks: int,
    looks: int,
) -> None:
    """What it begins with is known from the rung before."""
    looked = []

    def quality(self: StudentTraining, student: Any) -> Any:
        return lambda: looked.append(student) or 0.5

    monkeypatch.setattr(StudentTraining, "validation_quality", quality)
    recipe = made.training.recipe.model_copy(update={"checks": checks})
    runner = LocalRungRunner(replace(made.training, recipe=recipe))
    (stage,) = recipe.stages
    runner.run(Rung(ran[0].architecture, ran[0].rungs[0].path, stage), tmp_path)
    assert len(looked) == looks


def test_students_are_judged_on_validation_and_texts_that_they_were_not_fitted_on(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, few = made.task, len(made.task.validation) + 7
    for most in (few, 3):
        monkeypatch.setattr("nas.pipeline.guide.JUDGED", most)
        guide = Guide(
            made.teacher.path / MODEL, task, made.lesson.recipe, made.lesson.seed,
            made.bench.display,
        )  # fmt: skip
        ids = guide.judged.columns["input_ids"]
        validation = task.validation.columns["input_ids"]
        assert ids[: len(validation)] == validation
        assert len(ids) == len(guide.judged_logits) == max(most, len(validation))
        fitted = {
            tuple(row[row > 0].tolist()) for b in guide.sample_batches() for row in b["input_ids"]
        }
        train = {tuple(row) for row in task.train.columns["input_ids"]}
        others = {tuple(row) for row in ids[len(validation) :]}
        assert others <= train - fitted
        assert np.array_equal(guide.validation_logits, guide.judged_logits[: len(validation)])


@pytest.mark.parametrize(
    ("asked", "kept", "expected"), [(None, None, 256), (20, None, 20), (20, 0, 1), (20, 6, 6)]
)
def test_students_are_fitted_on_as_many_texts_as_asked_and_as_memory_holds(
    made: Made, monkeypatch: pytest.MonkeyPatch, asked: int | None, kept: int | None, expected: int
) -> None:
    """Never on none; the first of those that the seed draws.

    Args:
        asked: the recipe's ``fit_examples``.
        kept: for how many of the texts there is memory; None: for all.
    """
    train = made.task.train
    drawn = np.random.default_rng(made.lesson.seed).permutation(len(train))
    if kept is not None:
        tokens = sum(train.lengths[row] for row in drawn[:kept])
        limit = bytes_kept(tokens, made.guide.supernet.largest)
        monkeypatch.setattr("nas.pipeline.guide.MEMORY_LIMIT", limit)
    recipe = made.lesson.recipe.model_copy(update={"fit_examples": asked})
    guide = Guide(
        made.teacher.path / MODEL, made.task, recipe, made.lesson.seed, made.bench.display
    )
    texts = guide.evidence.texts
    lengths = [length for count, length in texts.groups for _ in range(count)]
    read = sorted(tuple(text.tolist()) for text in texts.input_ids.split(lengths))
    assert len(read) == expected
    assert read == sorted(tuple(train.columns["input_ids"][row]) for row in drawn[: len(read)])
    assert (guide.readings is None) == (kept is not None)


def test_a_guides_units_stand_in_an_order_of_importance(made: Made) -> None:
    """Another order than the teacher's, and the same function."""
    ordered, teacher = made.guide.supernet.weights, made.guide.as_it_was.weights
    weights, before = ordered.state_dict(), teacher.state_dict()
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    rows, rows_before = weights[name], before[name]  # neurons, whose inputs have an order too
    assert not torch.equal(rows, rows_before)
    assert sorted(rows.sort().values.tolist()) == sorted(rows_before.sort().values.tolist())
    (batch,) = made.guide.sample_batches(8)
    with torch.no_grad():
        torch.testing.assert_close(ordered(**batch).logits, teacher(**batch).logits)


def test_the_seed_draws_the_texts_that_a_guide_studies(made: Made) -> None:
    lesson, display = made.lesson, made.bench.display
    folder = made.teacher.path / "model"
    drawn = []
    for seed in (lesson.seed, lesson.seed + 1, lesson.seed + 1):
        guide = Guide(folder, made.task, lesson.recipe, seed, display)
        rows = [row[row > 0].tolist() for b in guide.sample_batches() for row in b["input_ids"]]
        drawn.append((rows, guide.judged.columns["input_ids"]))
    assert len(drawn[0][0]) == lesson.recipe.importance_examples
    for first, second, third in zip(*drawn, strict=True):
        assert first != second
        assert second == third


def test_a_second_race_finds_everything_done(made: Made, ran: list[Racer]) -> None:
    again = made.race()
    assert [racer.to_dict() for racer in again] == [racer.to_dict() for racer in ran]
    assert all(rung.reused for racer in again for rung in racer.rungs)


def test_a_killed_race_ends_as_an_undisturbed_one(
    made: Made, ran: list[Racer], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its last rung: the race before it is found, and the rung is trained to its end."""
    for name in ("teacher", "data", "workspace"):
        shutil.copytree(folder / name, tmp_path / name)
    shutil.rmtree(tmp_path / "workspace" / "racer")
    elsewhere = Made(tmp_path)
    before, trained = StudentTraining.run, []

    def run(self: StudentTraining, learner: Any, stages: Any, *given: Any, **named: Any) -> None:
        trained.append(stages[0].name)
        if trained.count("rung-2") == 1:
            raise KeyboardInterrupt
        before(self, learner, stages, *given, **named)

    monkeypatch.setattr(StudentTraining, "run", run)
    with pytest.raises(KeyboardInterrupt):
        elsewhere.race()
    monkeypatch.undo()
    again = elsewhere.race()
    assert [racer.to_dict() for racer in again] == [racer.to_dict() for racer in ran]
    ours, theirs = (load_file(one[0].rungs[-1].path / LEARNER) for one in (again, ran))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_winner_goes_on_from_its_weights(made: Made, ran: list[Racer]) -> None:
    beginning = ran[0].beginning()
    assert beginning.learner == ran[0].rungs[-1].path / LEARNER
    assert beginning.start(made.lesson.recipe.distill) == "raced"
    assert json.loads((ran[0].rungs[-1].path / "outcome.json").read_text())["quality"] > 0
