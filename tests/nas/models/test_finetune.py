"""Fine-tuning until validation no longer improves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from nas.data.task_data import load_data
from nas.models.finetune import finetune_to_folder
from nas.models.finetune_settings import FinetuneSettings
from nas.pipeline.learning import read_score
from nas.pipeline.pipeline import run_distillation
from nas.store.result_folder import MODEL
from supernet.architecture import Architecture
from supernet.errors import NasError
from tests.nas.learnt import RECIPE, Lines, ground_in, write_data, write_teacher


def score_of(folder: Path, **changes: object) -> float:
    ground = ground_in(folder, finetune=RECIPE["finetune"] | changes)
    return read_score(ground.teacher, ground.data.task, "validation")


@pytest.mark.slow
def test_more_epochs_are_taken_as_long_as_they_help(tmp_path: Path) -> None:
    """A bound of one epoch leaves this teacher where its first epochs did."""
    short = score_of(tmp_path, epochs=1)
    long = score_of(tmp_path, epochs=30, patience=6)
    assert long > short
    assert long > 0.9


def test_what_training_would_spoil_is_kept(tmp_path: Path) -> None:
    """A learning rate that ruins the teacher leaves it with the weights it began with."""
    ruined = score_of(tmp_path, learning_rate=3.0, epochs=2)
    untrained = score_of(tmp_path, learning_rate=0.0, epochs=1)
    assert ruined >= untrained


def test_words_that_no_text_has_stay_what_they_are(tmp_path: Path) -> None:
    """Also with weight decay, which would shrink them."""
    ground = ground_in(tmp_path, finetune=RECIPE["finetune"] | {"epochs": 30, "patience": 6})
    folders = (tmp_path / "teacher", ground.teacher.path / MODEL)
    before, after = (
        next(table for name, table in load_file(folder / "model.safetensors").items()
             if name.endswith("embeddings.word_embeddings.weight"))
        for folder in folders
    )  # fmt: skip
    unseen = [ground.task.tokenizer.convert_tokens_to_ids(word) for word in ("[UNK]", "[MASK]")]
    same = (before == after).all(dim=1)
    assert same[unseen].all()
    assert not same[ground.task.train.columns["input_ids"][0]].any()


@pytest.fixture
def lottery(tmp_path: Path) -> Path:
    """A teacher, and texts whose labels were drawn by lot."""
    write_teacher(tmp_path / "teacher")
    write_data(tmp_path / "data", at_random=True)
    return tmp_path


@pytest.mark.slow
def test_a_teacher_that_has_learnt_nothing_is_told(lottery: Path) -> None:
    """When it is made, and when it is found in the workspace; nothing is said of one that has."""
    for _ in range(2):
        lines = Lines()
        assert ground_in(lottery, lines).teacher
        (warned,) = lines.warned
        assert "examples of validation cannot be told from chance: always answering" in warned
        assert "train it longer (epochs of finetune in the recipe) or on more examples" in warned
    lines = Lines()
    longer = RECIPE["finetune"] | {"epochs": 30, "patience": 6}
    assert ground_in(lottery / "sound", lines, finetune=longer).teacher
    assert lines.warned == []


def test_fine_tuning_to_a_folder_tells_it_as_well(lottery: Path) -> None:
    lines, data = Lines(), load_data(str(lottery / "data"), seed=0)
    settings = FinetuneSettings(epochs=1, batch_size=16)
    finetune_to_folder(
        str(lottery / "teacher"), data, settings, lottery / "out", max_length=16, seed=0,
        display=lines,
    )  # fmt: skip
    assert [line.partition(" of ")[0] for line in lines.warned] == ["the teacher's accuracy"]


def test_distillation_tells_it_of_the_teacher_and_of_the_student(lottery: Path) -> None:
    lines, student = Lines(), Architecture.uniform(
        num_layers=1, hidden_size=16, num_heads=2, intermediate_size=32
    )  # fmt: skip
    ground = ground_in(lottery, lines)
    told = run_distillation(
        ground.lesson, json.dumps(student.to_dict()), lottery / "out", ground.bench
    )
    written = json.loads((lottery / "out" / "distillation.json").read_text())
    assert written["warnings"] == told["warnings"] == lines.warned[-2:]
    assert [line.partition(" of ")[0] for line in told["warnings"]] == [
        "the teacher's accuracy",
        "the model's accuracy",
    ]
    assert told["warnings"][1].endswith("mend its teacher first")
    labels = load_data(str(lottery / "data"), seed=0).test.labels
    largest = max(list(labels).count(label) for label in set(labels)) / len(labels)
    assert written["baseline_score"]["test"] == pytest.approx(largest)
    assert f"scores {largest:.1%}" in told["warnings"][1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"patience": 0}, "patience"),
        ({"warmup": 1.5}, "warmup"),
        ({"minutes": 0.0}, "minutes"),
        ({"least_gain": 3.0}, "least_gain"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(NasError, match=message):
        FinetuneSettings(**changes)
