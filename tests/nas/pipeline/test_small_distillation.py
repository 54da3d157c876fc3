"""Whole distillations, small enough for every change: a regression, and a compressed classifier."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from nas.cli import main
from nas.data.task_data import load_data
from nas.models.measured import load_model
from nas.pipeline.beginning import read_student
from nas.pipeline.distilling import forget_segments
from nas.tasks.metrics import compute
from supernet.architecture import Architecture
from supernet.errors import NasError
from tests.nas.learnt import POSITIONS, WORDS, write_data, write_teacher

RECIPE: dict[str, Any] = {
    "max_length": 12,
    "finetune": {"learning_rate": 2e-3, "batch_size": 16, "epochs": 3, "patience": 3},
    "importance_examples": 48,
    "fit_examples": 60,
    "distill": {
        "start": "fitted",
        "checks": 2,
        "stages": [
            {
                "name": "distil",
                "training": {"steps": 6, "batch_size": 16, "learning_rate": 1e-3},
                "losses": {"hard": 0.3, "soft": 1.0, "hidden": 1.0},
            }
        ],
    },
}
NARROW = Architecture.uniform(num_layers=2, hidden_size=16, num_heads=2, intermediate_size=32)


def write_values(folder: Path) -> None:
    """Texts whose value is some thousands, by the number of their first word."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(200):
        numbers = rng.integers(0, len(WORDS), rng.integers(3, 9))
        text = " ".join(WORDS[number] for number in numbers)
        rows.append({"text": text, "label": 5000.5 + 100.0 * float(numbers[0])})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))


class Place:
    """A folder with a teacher, data and a recipe, in which commands run."""

    def __init__(self, root: Path, patched: pytest.MonkeyPatch) -> None:
        self.root, self._patched = root, patched
        write_teacher(root / "teacher")
        config = root / "teacher" / "config.json"
        eps = {"layer_norm_eps": 0.05}  # which shows wherever it is left out
        config.write_text(json.dumps(json.loads(config.read_text()) | eps))
        write_data(root / "classes", 160)
        write_values(root / "values")
        (root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))

    def run(self, command: str, student: str, data: str, output: str, **more: str) -> Any:
        """What ``distillation.json`` holds in the end."""
        given = {
            "teacher": "teacher", "data": data, "recipe": "recipe.yaml",
            "workspace": "workspace", "seed": "2", "output": output, **more,
        }  # fmt: skip
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        self._patched.chdir(self.root)
        self._patched.setattr(sys, "argv", ["nas", command, student, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return json.loads((self.root / output / "distillation.json").read_text())

    @torch.no_grad()
    def predicted(self, model: Path, data: str) -> tuple[Any, Any]:
        """A model's outputs on the test split, and the labels."""
        split = load_data(str(self.root / data), seed=2).test
        found, tokenizer = load_model(model)
        inputs = tokenizer(
            list(split.text_a), padding=True, truncation=True, max_length=12, return_tensors="pt"
        )
        return found.eval()(**inputs).logits.numpy(), np.asarray(split.labels)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield Place(tmp_path_factory.mktemp("distilled"), patch)


@pytest.fixture(scope="module")
def of_values(place: Place) -> Any:
    return place.run("distill", json.dumps(NARROW.to_dict()), "values", "regressor")


def test_a_regressor_predicts_in_the_datas_own_units(place: Place, of_values: Any) -> None:
    assert of_values["metric"] == "pearson_spearman"
    assert of_values["architecture"] == NARROW.to_dict()
    assert [of_values[one] for one in ("teacher", "data", "seed")] == ["teacher", "values", 2]
    assert of_values["recipe"]["max_length"] == RECIPE["max_length"]
    logits, labels = place.predicted(place.root / "regressor" / "model", "values")
    assert logits.mean() == pytest.approx(labels.mean(), rel=0.2)
    assert logits.std() < 3 * labels.std()
    score = compute("pearson_spearman", logits, labels)
    assert of_values["score"]["test"] == pytest.approx(score, abs=1e-4)


def test_a_student_that_holds_no_text_as_long_as_the_recipes_is_refused(
    place: Place, of_values: Any
) -> None:
    folder = str(place.root / "regressor")
    assert read_student(folder, POSITIONS).architecture == NARROW
    says = f"has {POSITIONS} positions, fewer than the recipe's max_length {POSITIONS + 1}"
    with pytest.raises(NasError, match=says):
        read_student(folder, POSITIONS + 1)


def test_segments_that_a_student_was_never_shown_are_as_the_first(
    place: Place, of_values: Any
) -> None:
    model, _ = load_model(place.root / "regressor" / "model")
    table = model.bert.embeddings.token_type_embeddings.weight
    before = table.detach().clone()
    assert not torch.equal(before[0], before[1])
    forget_segments(model)
    assert torch.equal(table, before[:1].expand(2, -1))


def test_a_regressor_that_learns_on_is_taken_in_its_own_units(place: Place, of_values: Any) -> None:
    """Where no weight changes, it predicts what it did."""
    stage = RECIPE["distill"]["stages"][0]
    still = stage | {"training": stage["training"] | {"learning_rate": 0.0}}
    recipe = RECIPE | {"distill": RECIPE["distill"] | {"stages": [still]}}
    (place.root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    again = place.run("distill", "regressor", "values", "again")
    (place.root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    assert again["score"] == of_values["score"]
    before, after = (
        load_file(place.root / name / "model" / "model.safetensors")
        for name in ("regressor", "again")
    )
    for name in ("classifier.weight", "classifier.bias"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-4)


def test_a_compressed_student_says_what_it_is(place: Place) -> None:
    target = {"threads": 1, "batch_size": 1, "sequence_length": 12}
    (place.root / "target.yaml").write_text(yaml.safe_dump(target))
    given = json.dumps(NARROW.to_dict())
    more = {"ratio": "1.5", "terms": "1", "target": "target.yaml"}
    told = place.run("compress", given, "classes", "small", **more)
    model, _ = load_model(place.root / "small" / "model")
    whole = place.run("distill", given, "classes", "whole")
    assert told["parameters"] == model.num_parameters() <= whole["parameters"] / 1.5
    assert {form["name"] for form in told["forms"]} == {"factored", "dense"}
    assert told["target"]["sequence_length"] == 12
    logits, labels = place.predicted(place.root / "small" / "model", "classes")
    assert told["score"]["test"] == pytest.approx((logits.argmax(axis=1) == labels).mean())
    assert 0 <= told["baseline_score"]["test"] <= 1
    assert told["baseline_score"]["test"] == pytest.approx(
        max(np.bincount(labels)) / len(labels), abs=0.2
    )


def test_unlabelled_texts_are_drawn_where_the_recipe_says(place: Place) -> None:
    stage = RECIPE["distill"]["stages"][0] | {"data": "unlabelled", "losses": {"relation": 1.0}}
    distill = RECIPE["distill"] | {"texts": "values", "limit": 20, "stages": [stage]}
    (place.root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"distill": distill}))
    place.run("distill", json.dumps(NARROW.to_dict()), "classes", "general")
    (place.root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))

    texts = [json.loads(line)["text"] for line in (place.root / "values" / "train.jsonl").open()]
    rows = sorted(np.random.default_rng(2).permutation(len(texts))[:20])
    drawn = json.dumps([texts[row] for row in rows])
    inputs = [
        json.loads(path.read_text())["inputs"]
        for path in (place.root / "workspace" / "student").glob("*/manifest.json")
    ]
    (found,) = (one for one in inputs if one["distill"]["limit"] == 20)
    assert found["texts"] == hashlib.sha256(drawn.encode()).hexdigest()
