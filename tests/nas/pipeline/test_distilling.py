"""Distillation without a search, by every recipe that ships, on real text, of a small teacher."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)

from latency import beside
from latency.target import Target
from nas.data.held_out import HeldOut
from nas.data.task_data import TaskData, load_data
from nas.models.compare import compare_folders, comparison_plot
from nas.models.export import export, onnx_difference
from nas.models.finetune_settings import FinetuneSettings
from nas.models.measured import load_model
from nas.models.quantize import quantize_folder
from nas.models.teacher import EMBEDDED, locate
from nas.pipeline import pipeline
from nas.pipeline.augment import AUGMENTED
from nas.pipeline.beginning import sub_network
from nas.pipeline.compressing import Kronecker
from nas.pipeline.distilling import check_for_search, first_batch, in_the_order_of
from nas.pipeline.pipeline import Groundwork
from nas.pipeline.recipe import Recipe, load_recipe
from nas.pipeline.request import Lesson
from nas.pipeline.stage import Workbench
from nas.pipeline.student_training import StudentTraining
from nas.store.workspace import Workspace
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.distill.stage import DistillStage
from supernet.distill.trainer import DistillTrainer
from supernet.errors import NasError
from supernet.importance import measure_importance, reorder
from supernet.model import Supernet
from supernet.space import SearchSpace
from supernet.student import architecture_of, shape_of
from supernet.training_settings import TrainingSettings
from tests.latency.conftest import HASTY

pytestmark = pytest.mark.slow

NARROW = Architecture.uniform(
    num_layers=2, hidden_size=64, num_heads=2, qkv_size=32, intermediate_size=96
)
AS_WIDE = Architecture.uniform(num_layers=2, hidden_size=96, num_heads=6, intermediate_size=192)

SAMPLE = {"input_ids": torch.tensor([[2, 7, 3]]), "attention_mask": torch.ones(1, 3).long()}


@pytest.fixture(autouse=True)
def timed_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "VERIFY", HASTY)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Paragraphs of two libraries, and a teacher that reads them by the embedded one's words."""
    from nas.data.pydoc import _root, read_paragraphs

    folder = tmp_path_factory.mktemp("distill")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(locate(EMBEDDED))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=96, num_hidden_layers=4, num_attention_heads=6,
        intermediate_size=192, max_position_embeddings=64, initializer_range=0.1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
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

    def short(stage: DistillStage) -> DistillStage:
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
            "finetune": FinetuneSettings(learning_rate=1e-4, batch_size=32, epochs=1, checks=1),
            "distill": recipe.distill.model_copy(
                update={
                    "stages": tuple(map(short, recipe.distill.stages)),
                    "augmentation": replace(recipe.distill.augmentation, copies=2),
                    "texts": texts,
                }
            ),
        }
    )


def held_out(data: TaskData) -> HeldOut:
    return HeldOut(data.task, data.test, "test")


def ground(root: Path, recipe: str, teacher: str | None = None) -> Groundwork:
    data = str(root / "data")
    teacher = teacher or str(root / "teacher")
    lesson = Lesson(teacher=teacher, data=data, recipe=shortened(load_recipe(recipe), data))
    return Groundwork(lesson, Workbench(Workspace(root / "workspace"), Display()))


def run_distillation(
    given: Groundwork, student: str, output: Path, **options: Any
) -> dict[str, Any]:
    return pipeline.run_distillation(given.lesson, student, output, given.bench, **options)


@pytest.mark.parametrize(
    "recipe", ["finetune", "kd", "tinybert", "mixkd", "autotinybert", "theseus", "best", "full"]
)
def test_every_recipe_runs(root: Path, tmp_path: Path, recipe: str) -> None:
    architecture = AS_WIDE if recipe == "theseus" else NARROW
    given = json.dumps(architecture.to_dict())
    told = run_distillation(ground(root, recipe), given, tmp_path / "student")
    written = json.loads((tmp_path / "student" / "distillation.json").read_text())
    assert told == written
    assert written["architecture"] == architecture.to_dict()
    assert set(written["score"]) == {"validation", "test"}
    assert (tmp_path / "student" / "model.onnx").is_file()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student" / "model")
    assert model.num_parameters() == written["parameters"]


def test_a_fitted_student_predicts_before_it_learns(root: Path, tmp_path: Path) -> None:
    """Where no weight changes, it is nearer to the predictions of a teacher that has learnt than
    leading units are.
    """
    given = json.dumps(NARROW.to_dict())
    data = load_data(str(root / "data"), seed=0)
    distances = {}
    for start in ("teacher", "fitted"):
        at_work = still(ground(root, "best", EMBEDDED))
        recipe = at_work.lesson.recipe
        recipe = recipe.model_copy(
            update={
                "importance_examples": 96,
                "distill": recipe.distill.model_copy(update={"start": start}),
            }
        )
        at_work = Groundwork(replace(at_work.lesson, recipe=recipe), at_work.bench)
        run_distillation(at_work, given, tmp_path / start)
        student, tokenizer = load_model(tmp_path / start / "model")
        inputs = tokenizer(list(data.test.text_a), padding=True, truncation=True, max_length=24)
        inputs = {name: torch.tensor(values) for name, values in inputs.items()}
        bert, _ = load_model(at_work.teacher.path / "model")
        with torch.no_grad():
            distances[start] = (student(**inputs).logits - bert(**inputs).logits).square().mean()
    assert distances["fitted"] < 0.5 * distances["teacher"]


def test_augmented_texts_can_be_looked_at(root: Path, tmp_path: Path) -> None:
    run_distillation(ground(root, "full"), json.dumps(NARROW.to_dict()), tmp_path / "student")
    (file,) = (root / "workspace").glob(f"augmented/*/{AUGMENTED}")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {tuple(line) for line in lines} == {("row", "text_a")}
    rows = [line["row"] for line in lines]
    assert rows == sorted(rows)
    assert {rows.count(row) for row in rows} == {2}


def still(given: Groundwork) -> Groundwork:
    """The same stages, of which none changes a weight."""
    recipe = given.lesson.recipe
    stages = tuple(
        replace(one, training=replace(one.training, learning_rate=0.0))
        for one in recipe.distill.stages
    )
    recipe = recipe.model_copy(
        update={"distill": recipe.distill.model_copy(update={"stages": stages})}
    )
    return Groundwork(replace(given.lesson, recipe=recipe), given.bench)


@pytest.mark.parametrize("recipe", ["kd", "best"])
def test_a_finished_model_learns_on(root: Path, tmp_path: Path, recipe: str) -> None:
    """A folder as the student: where no weight changes, it stays what it was."""
    run_distillation(ground(root, "kd"), json.dumps(NARROW.to_dict()), tmp_path / "first")
    run_distillation(still(ground(root, recipe)), str(tmp_path / "first"), tmp_path / "second")
    first, second = (load_model(tmp_path / one / "model")[0] for one in ("first", "second"))
    ends = first.state_dict(), second.state_dict()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_head_of_another_order_is_put_in_the_tasks(root: Path, tmp_path: Path) -> None:
    run_distillation(ground(root, "kd"), json.dumps(NARROW.to_dict()), tmp_path / "first")
    model, tokenizer = load_model(tmp_path / "first" / "model")
    with torch.no_grad():
        for part in (model.classifier.weight, model.classifier.bias):
            part.copy_(part.flip(0))
    model.config.id2label = {0: "sklearn", 1: "networkx"}
    model.config.label2id = {"sklearn": 0, "networkx": 1}
    model.save_pretrained(tmp_path / "flipped")
    tokenizer.save_pretrained(tmp_path / "flipped")
    data = load_data(str(root / "data"), seed=0)
    target = Target(threads=1, batch_size=1, sequence_length=16)
    found = quantize_folder(
        tmp_path / "flipped", data, target, "dynamic", tmp_path / "int8", max_length=24
    )
    written, _ = load_model(tmp_path / "int8" / "model")
    assert written.config.id2label == {0: "networkx", 1: "sklearn"}  # the order of its logits
    assert torch.equal(written.classifier.weight, model.classifier.weight.flip(0))
    assert found[0].name == "float32"
    (own,) = compare_folders([tmp_path / "int8"], held_out(data), target, max_length=24)
    assert own.score == found[1].test

    # Weights that were changed since: the file beside them is of others.
    written.classifier.bias.data.add_(torch.tensor([100.0, 0.0]))
    written.save_pretrained(tmp_path / "int8" / "model")
    (own,) = compare_folders([tmp_path / "int8"], held_out(data), target, max_length=24)
    assert own.score == np.mean([label == 0 for label in data.test.labels])
    (tmp_path / "int8" / "model.onnx").write_bytes(b"no model")  # nor is one that is none
    assert compare_folders([tmp_path / "int8"], held_out(data), target, max_length=24)[0].score == (
        own.score
    )

    # An ONNX file with its logits in another order than the task's.
    export(load_model(tmp_path / "flipped")[0], tokenizer, tmp_path / "old", sample=SAMPLE)
    (own,) = compare_folders([tmp_path / "old"], held_out(data), target, max_length=24)
    assert own.score == found[0].test

    run_distillation(still(ground(root, "kd")), str(tmp_path / "flipped"), tmp_path / "second")
    first, second = (load_model(tmp_path / one / "model")[0] for one in ("first", "second"))
    assert second.config.id2label == first.config.id2label
    assert torch.equal(first.classifier.weight, second.classifier.weight)


def test_a_run_stopped_between_stages_ends_as_an_undisturbed_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = json.dumps(NARROW.to_dict())

    def weights(workspace: Path, output: Path) -> dict[str, torch.Tensor]:
        bench = Workbench(Workspace(workspace), Display())
        run_distillation(Groundwork(ground(root, "tinybert").lesson, bench), given, output)
        found: dict[str, torch.Tensor] = load_model(output / "model")[0].state_dict()
        return found

    undisturbed = weights(tmp_path / "one", tmp_path / "first")
    run = DistillTrainer.run

    def stopped(self: DistillTrainer) -> None:
        if self.stage.name == "prediction":
            raise KeyboardInterrupt
        run(self)

    with monkeypatch.context() as patched:
        patched.setattr(DistillTrainer, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            weights(tmp_path / "other", tmp_path / "second")
    assert list((tmp_path / "other").glob("student/*.partial/checkpoints/2-*.safetensors"))
    resumed = weights(tmp_path / "other", tmp_path / "second")
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in undisturbed)


def test_a_teacher_is_taken_in_the_order_of_its_student() -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, initializer_range=0.3,
    )  # fmt: skip
    as_it_was = Supernet(BertForSequenceClassification(config).eval())
    ordered = deepcopy(as_it_was)
    batch = {"input_ids": torch.randint(5, 50, (4, 9)), "attention_mask": torch.ones(4, 9).long()}
    generator = torch.Generator().manual_seed(0)
    reorder(ordered.weights, measure_importance(ordered.weights, [batch], generator=generator))
    small = Architecture.uniform(
        num_layers=1, hidden_size=16, num_heads=2, qkv_size=16, intermediate_size=24
    )
    for guide in (as_it_was, ordered):
        for student in (guide.extract(guide.largest), guide.extract(small)):
            assert in_the_order_of(student, [ordered, as_it_was], batch) is guide


def test_a_compressed_student_can_be_compressed_again(root: Path, tmp_path: Path) -> None:
    given = json.dumps(NARROW.to_dict())
    once = run_distillation(ground(root, "kd"), given, tmp_path / "once", kronecker=Kronecker(2.0))
    twice = run_distillation(
        ground(root, "kd"), str(tmp_path / "once"), tmp_path / "twice", kronecker=Kronecker(2.0)
    )
    assert twice["parameters"] <= once["parameters"] / 2
    with pytest.raises(NasError, match="ratio 500 with low rank: parameters must be at least"):
        run_distillation(ground(root, "kd"), given, tmp_path / "none", kronecker=Kronecker(500.0))


def test_a_compressed_sub_network_begins_as_the_supernets(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own start, factors are fitted to what the supernet computes."""
    given = ground(root, "kd")
    layers = tuple(replace(layer, compression=2) for layer in NARROW.layers)
    beginning = sub_network(replace(NARROW, layers=layers), given.teacher)
    recipe, task = given.lesson.recipe.distill, given.data.task
    student = beginning.with_weights(recipe, given.guide, task, 0, given.bench.display)
    guide = given.guide.as_it_was
    batch = first_batch(given.task)
    whole = guide.extract(NARROW)(**batch).logits
    nearest = guide.extract(beginning.architecture)(**batch).logits
    assert architecture_of(student.config) == beginning.architecture
    assert (student(**batch).logits - whole).square().sum() < (nearest - whole).square().sum()


def test_a_student_with_compressed_layers_is_compressed_as_a_whole(
    root: Path, tmp_path: Path
) -> None:
    layers = tuple(replace(layer, compression=2) for layer in NARROW.layers)
    given = json.dumps(replace(NARROW, layers=layers).to_dict())
    told = run_distillation(
        ground(root, "best"), given, tmp_path / "small", kronecker=Kronecker(2.0)
    )
    assert told["architecture"] == NARROW.to_dict()
    model, _ = load_model(tmp_path / "small" / "model")
    assert told["parameters"] <= NARROW.parameters(shape_of(model.config)) / 2


def test_factors_are_fitted_where_the_recipe_says_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To what the student itself computes, which is a finished model here."""
    finished = tmp_path / "finished"
    run_distillation(ground(root, "kd", EMBEDDED), json.dumps(NARROW.to_dict()), finished)
    model, tokenizer = load_model(finished / "model")
    sample = tokenizer(["Fit the model.", "A shortest path"], padding=True, return_tensors="pt")
    monkeypatch.setattr(StudentTraining, "run", lambda *_: None)
    errors = {}
    for recipe in ("kd", "best"):
        run_distillation(
            ground(root, recipe, EMBEDDED),
            str(finished),
            tmp_path / recipe,
            kronecker=Kronecker(1.5, 1),
        )
        small, _ = load_model(tmp_path / recipe / "model")
        errors[recipe] = (small(**sample).logits - model(**sample).logits).square().sum().item()
    assert errors["best"] < 0.7 * errors["kd"]


@pytest.mark.parametrize(("recipe", "terms"), [("kronecker", 2), ("theseus", 2), ("best", None)])
def test_a_compressed_student_is_as_small_as_asked(
    root: Path, tmp_path: Path, recipe: str, terms: int | None
) -> None:
    """Also with its layers taking the teacher's place one by one, and with fitted factors."""
    architecture = AS_WIDE if recipe == "theseus" else NARROW
    target = Target(threads=1, batch_size=1, sequence_length=16)
    given = json.dumps(architecture.to_dict())
    told = run_distillation(
        ground(root, recipe),
        given,
        tmp_path / "small",
        kronecker=Kronecker(3.0, terms),
        target=target,
    )
    model, tokenizer = load_model(tmp_path / "small" / "model")
    assert told["parameters"] == model.num_parameters()
    assert told["parameters"] <= architecture.parameters(shape_of(model.config)) / 3
    assert {form["name"] for form in told["forms"]} == {"factored", "dense"}
    sample = tokenizer(["Fit the model.", "A shortest path"], padding=True, return_tensors="pt")
    assert onnx_difference(model, tmp_path / "small" / "model.onnx", sample) < 1e-4


@pytest.mark.parametrize("form", ["dynamic", "static"])
def test_a_finished_model_in_eight_bits(root: Path, tmp_path: Path, form: str) -> None:
    told = run_distillation(ground(root, "kd"), json.dumps(NARROW.to_dict()), tmp_path / "one")
    data = load_data(str(root / "data"), seed=0)
    target = Target(threads=1, batch_size=1, sequence_length=16)
    folder = tmp_path / "one" / "model"
    found = quantize_folder(folder, data, target, form, tmp_path / "int8", max_length=24)
    by_name = {one.name: one for one in found}
    assert by_name["float32"].test == told["score"]["test"]
    written = (tmp_path / "int8" / "model.onnx").stat().st_size / 1e6
    assert written == by_name[form].megabytes < 0.5 * by_name["float32"].megabytes
    assert {path.name for path in (tmp_path / "int8").iterdir()} == {"model", "model.onnx"}
    (compared,) = compare_folders([tmp_path / "int8"], held_out(data), target, max_length=24)
    assert (compared.score, compared.megabytes) == (by_name[form].test, written)  # as it is served
    with pytest.raises(NasError, match="exists"):
        quantize_folder(folder, data, target, form, tmp_path / "int8", max_length=24)
    with pytest.raises(NasError, match="lies within the model"):
        quantize_folder(folder, data, target, form, folder / "int8", max_length=24)
    with pytest.raises(NasError, match="form must be dynamic or static, not 'int4'"):
        quantize_folder(folder, data, target, "int4", tmp_path / "other", max_length=24)


def test_finished_models_are_compared(root: Path, tmp_path: Path) -> None:
    given = json.dumps(NARROW.to_dict())
    told = run_distillation(ground(root, "kd"), given, tmp_path / "one")
    data = load_data(str(root / "data"), seed=0)
    target = Target(threads=1, batch_size=1, sequence_length=16)
    teacher = ground(root, "kd").teacher.path / "model"
    found = compare_folders([tmp_path / "one", teacher], held_out(data), target, max_length=24)
    assert found[0].score == told["score"]["test"]
    assert found[1].score == told["teacher_score"]["test"]
    assert found[0].parameters < found[1].parameters
    comparison_plot(found, "accuracy").savefig(tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_a_search_by_replacement_needs_a_space_for_it() -> None:
    recipe = load_recipe("theseus").distill
    teacher = Architecture.uniform(
        num_layers=6, hidden_size=384, num_heads=12, intermediate_size=1536
    )
    given = {"name": "own", "num_heads": [12], "qkv_size": "hidden_size"}

    def space(depths: list[int], widths: list[int]) -> SearchSpace:
        sizes = {"num_layers": depths, "hidden_size": widths, "intermediate_size": [1536]}
        return SearchSpace.from_dict(given | sizes | {"uniform": True})

    check_for_search(recipe, space([1, 2, 3], [384]), teacher)
    check_for_search(load_recipe("full").distill, space([4], [192]), teacher)
    with pytest.raises(NasError, match="hidden size 384, and space own has 192"):
        check_for_search(recipe, space([2], [192, 384]), teacher)
    with pytest.raises(NasError, match="divides the teacher's 6, and space own has 4"):
        check_for_search(recipe, space([2, 4], [384]), teacher)


def test_bad_students_are_refused(root: Path, tmp_path: Path) -> None:
    narrow = json.dumps(NARROW.to_dict())
    with pytest.raises(NasError, match="hidden size must be the teacher's 96, not 64"):
        run_distillation(ground(root, "theseus"), narrow, tmp_path / "student")
    with pytest.raises(NasError, match="give one architecture, not 2"):
        run_distillation(ground(root, "kd"), f"[{narrow}, {narrow}]", tmp_path / "student")
    with pytest.raises(NasError, match="neither JSON nor a file or folder"):
        run_distillation(ground(root, "kd"), "nowhere", tmp_path / "student")
    elsewhere = Groundwork(
        replace(ground(root, "kd").lesson, data=str(tmp_path / "no data")),
        Workbench(Workspace(tmp_path / "workspace"), Display()),
    )
    with pytest.raises(NasError, match="neither JSON nor a file or folder"):  # first of all
        run_distillation(elsewhere, "nowhere", tmp_path / "student")
    assert not (tmp_path / "student").exists()
