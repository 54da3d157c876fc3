"""Distillation without a search, by every recipe that ships, on real text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from latency.target import Target
from nas.augment import AUGMENTED
from nas.compare import compare_folders, comparison_plot
from nas.compress import Kronecker
from nas.data import load_data
from nas.export import onnx_difference
from nas.measured import load_model
from nas.pipeline import run_distillation
from nas.progress import Display
from nas.quantize import quantize_folder
from nas.recipe import Recipe, load_recipe
from nas.request import Lesson, Study
from nas.workspace import Workspace
from supernet.architecture import Architecture
from supernet.distill.stage import Stage
from supernet.errors import NasError
from supernet.student import shape_of
from supernet.training import TrainingSettings

pytestmark = pytest.mark.slow

NARROW = Architecture.uniform(
    num_layers=2, hidden_size=64, num_heads=2, qkv_size=32, intermediate_size=96
)
AS_WIDE = Architecture.uniform(num_layers=2, hidden_size=384, num_heads=12, intermediate_size=1536)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nas.pydoc import _root, read_paragraphs

    folder = tmp_path_factory.mktemp("distill")
    (folder / "data").mkdir()
    rows = [
        {"text": text, "label": library}
        for library in ("networkx", "sklearn")
        for text in sorted(read_paragraphs(_root(library)))[:80]
    ]
    (folder / "data" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def shortened(recipe: Recipe, texts: str) -> Recipe:
    """The same stages, a few steps each."""

    def short(stage: Stage) -> Stage:
        return replace(
            stage,
            training=TrainingSettings(
                steps=3, batch_size=8, learning_rate=stage.training.learning_rate
            ),
        )

    return recipe.model_copy(
        update={
            "max_length": 24,
            "importance_examples": 16,
            "finetune": TrainingSettings(steps=4, batch_size=8, learning_rate=1e-4),
            "distill": recipe.distill.model_copy(
                update={
                    "stages": tuple(map(short, recipe.distill.stages)),
                    "augmentation": replace(recipe.distill.augmentation, copies=2),
                    "texts": texts,
                }
            ),
        }
    )


def study(root: Path, recipe: str) -> Study:
    data = str(root / "data")
    lesson = Lesson(teacher="minilm", data=data, recipe=shortened(load_recipe(recipe), data))
    return Study(lesson, Workspace(root / "workspace"), Display())


@pytest.mark.parametrize(
    "recipe", ["finetune", "kd", "tinybert", "mixkd", "autotinybert", "theseus", "full"]
)
def test_every_recipe_runs(root: Path, tmp_path: Path, recipe: str) -> None:
    architecture = AS_WIDE if recipe == "theseus" else NARROW
    given = json.dumps(architecture.to_dict())
    told = run_distillation(study(root, recipe), given, tmp_path / "student")
    written = json.loads((tmp_path / "student" / "distillation.json").read_text())
    assert told == written
    assert written["architecture"] == architecture.to_dict()
    assert set(written["score"]) == {"validation", "test"}
    assert (tmp_path / "student" / "model.onnx").is_file()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student" / "model")
    assert model.num_parameters() == written["parameters"]


def test_augmented_texts_can_be_looked_at(root: Path, tmp_path: Path) -> None:
    run_distillation(study(root, "full"), json.dumps(NARROW.to_dict()), tmp_path / "student")
    (file,) = (root / "workspace").glob(f"augmented/*/{AUGMENTED}")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {tuple(line) for line in lines} == {("row", "text_a")}
    rows = [line["row"] for line in lines]
    assert rows == sorted(rows)
    assert {rows.count(row) for row in rows} == {2}


def test_a_finished_model_learns_on(root: Path, tmp_path: Path) -> None:
    """A folder as the student: with no step of any weight, it stays what it was."""
    given = json.dumps(NARROW.to_dict())
    first = run_distillation(study(root, "kd"), given, tmp_path / "first")
    again = study(root, "kd")
    still = tuple(
        replace(one, training=replace(one.training, learning_rate=0.0))
        for one in again.request.recipe.distill.stages
    )
    recipe = again.request.recipe
    recipe = recipe.model_copy(
        update={"distill": recipe.distill.model_copy(update={"stages": still})}
    )
    again = replace(again, request=replace(again.request, recipe=recipe))
    second = run_distillation(again, str(tmp_path / "first"), tmp_path / "second")
    assert second["score"] == first["score"]


@pytest.mark.parametrize("recipe", ["kronecker", "theseus"])
def test_a_compressed_student_is_as_small_as_asked(root: Path, tmp_path: Path, recipe: str) -> None:
    """Also with its layers taking the teacher's place one by one."""
    architecture = AS_WIDE if recipe == "theseus" else NARROW
    target = Target(threads=1, batch_size=1, sequence_length=16)
    given = json.dumps(architecture.to_dict())
    told = run_distillation(
        study(root, recipe), given, tmp_path / "small", kronecker=Kronecker(3.0, 2), target=target
    )
    model, tokenizer = load_model(tmp_path / "small" / "model")
    assert told["parameters"] == model.num_parameters()
    assert told["parameters"] <= architecture.parameters(shape_of(model.config)) / 3
    assert {form["name"] for form in told["forms"]} == {"factored", "dense"}
    sample = tokenizer(["Fit the model.", "A shortest path"], padding=True, return_tensors="pt")
    assert onnx_difference(model, tmp_path / "small" / "model.onnx", sample) < 1e-4


@pytest.mark.parametrize("form", ["dynamic", "static"])
def test_a_finished_model_in_eight_bits(root: Path, tmp_path: Path, form: str) -> None:
    told = run_distillation(study(root, "kd"), json.dumps(NARROW.to_dict()), tmp_path / "one")
    data = load_data(str(root / "data"), seed=0)
    target = Target(threads=1, batch_size=1, sequence_length=16)
    folder = tmp_path / "one" / "model"
    found = quantize_folder(folder, data, target, form, tmp_path / "int8", max_length=24)
    by_name = {one.name: one for one in found}
    assert by_name["float32"].test == told["score"]["test"]
    written = (tmp_path / "int8" / "model.onnx").stat().st_size / 1e6
    assert written == by_name[form].megabytes < 0.5 * by_name["float32"].megabytes
    assert {path.name for path in (tmp_path / "int8").iterdir()} == {"model", "model.onnx"}
    with pytest.raises(NasError, match="exists"):
        quantize_folder(folder, data, target, form, tmp_path / "int8", max_length=24)
    with pytest.raises(NasError, match="form must be dynamic or static, not 'int4'"):
        quantize_folder(folder, data, target, "int4", tmp_path / "other", max_length=24)


def test_finished_models_are_compared(root: Path, tmp_path: Path) -> None:
    given = json.dumps(NARROW.to_dict())
    told = run_distillation(study(root, "kd"), given, tmp_path / "one")
    data = load_data(str(root / "data"), seed=0)
    target = Target(threads=1, batch_size=1, sequence_length=16)
    (teacher,) = (root / "workspace" / "teacher").glob("*/model")
    found = compare_folders([tmp_path / "one", teacher], data, "test", target, max_length=24)
    assert found[0].score == told["score"]["test"]
    assert found[1].score == told["teacher_score"]["test"]
    assert found[0].parameters < found[1].parameters
    comparison_plot(found, "accuracy").savefig(tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    with pytest.raises(NasError, match="split must be one of"):
        compare_folders([tmp_path / "one"], data, "dev", target, max_length=24)


def test_bad_students_are_refused(root: Path, tmp_path: Path) -> None:
    narrow = json.dumps(NARROW.to_dict())
    with pytest.raises(NasError, match="hidden size must be the teacher's 384, not 64"):
        run_distillation(study(root, "theseus"), narrow, tmp_path / "student")
    with pytest.raises(NasError, match="give one architecture, not 2"):
        run_distillation(study(root, "kd"), f"[{narrow}, {narrow}]", tmp_path / "student")
    with pytest.raises(NasError, match="neither JSON nor a file or folder"):
        run_distillation(study(root, "kd"), "nowhere", tmp_path / "student")
    assert not (tmp_path / "student").exists()
