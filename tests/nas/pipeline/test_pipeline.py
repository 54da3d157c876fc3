"""The main job with every real part: the embedded teacher, real paragraphs, this machine's clock.

Small in every setting, so that it takes half a minute; what it learns is little, and that is not
tested. What a search does with budgets, caps, faults and other options is tested on a teacher that
is smaller still: see ``small_search.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from latency.target import Target
from nas.cli import main
from nas.data.held_out import load_held_out
from nas.data.pydoc import _root, read_paragraphs
from nas.models.compare import evaluate_folder
from nas.models.measured import model_head
from supernet.architecture import Architecture
from supernet.space import SearchSpace

pytestmark = pytest.mark.slow

LIBRARIES = ("networkx", "sklearn")
SPACE = {
    "name": "few",
    "num_layers": [1, 2],
    "hidden_size": [64, 192],
    "num_heads": {"min": 2, "max": 6, "step": 1},
    "qkv_size": "hidden_size",
    "head_size": [32],
    "intermediate_size": [128, 768],
    "uniform": True,
}
TARGET = {"threads": 1, "batch_size": 1, "sequence_length": 24}
RECIPE = {
    "max_length": 24,
    "limit": 96,
    "finetune": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-4},
    "importance_examples": 32,
    "general": {
        "texts": "data",
        "limit": 32,
        "settings": {
            "training": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-4},
            "num_random": 1,
            "soft_weight": 0.0,
            "hard_weight": 0.0,
            "relation_weight": 1.0,
        },
    },
    "supernet": {
        "training": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-4},
        "num_random": 1,
    },
    "profile_s": 5,
    "timing_rounds": 6,
    "count_disturbed": True,  # tests may run beside other work
    "search": {"evaluations": 8, "refinement": 1, "batch": 2},
    "race": {"finalists": 3, "rungs": [3]},
    "distill": {
        "augmentation": {"copies": 1},
        "stages": [
            {
                "name": "distil",
                "data": "augmented",
                "training": {"epochs": 1, "batch_size": 16, "learning_rate": 5e-4},
                "losses": {"hard": 0.3, "soft": 1.0, "hidden": 1.0},
                "reference_width": 256,
            }
        ],
    },
}
LATENCY = "1ms"
"""All of the space takes far less, so that what is chosen does not hang on what else runs here."""
STAGES = ("profile", "teacher", "supernet", "search", "choice", "racer", "student")
"""In the order in which a run comes to them."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a search has run; its result is in ``result``."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "data").mkdir()
    rows = [
        {"text": text, "label": library}
        for library in LIBRARIES
        for text in sorted(read_paragraphs(_root(library)))[:160]
    ]
    (folder / "data" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, content in (("space", SPACE), ("recipe", RECIPE), ("target", TARGET)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    given = {
        "latency": LATENCY, "output": "result", "workspace": "workspace", "data": "data",
        "space": "space.yaml", "recipe": "recipe.yaml", "target": "target.yaml",
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(sys, "argv", ["nas", "search", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    return folder


@pytest.fixture(scope="module")
def report(finished: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((finished / "result" / "report.json").read_text())
    return report


def test_the_report_says_what_was_asked_and_measured(
    finished: Path, report: dict[str, Any]
) -> None:
    required = {
        *("budget_ms", "target", "architecture", "predicted_p50_ms", "measured_p50_ms"),
        *("measured_p95_ms", "teacher_p50_ms", "speedup", "metric", "score", "teacher_score"),
        *("parameters", "teacher_parameters", "stages", "seed", "versions"),
    }
    assert required <= set(report)
    assert report["measured_p50_ms"] <= report["budget_ms"]
    assert report["speedup"] == pytest.approx(report["teacher_p50_ms"] / report["measured_p50_ms"])
    assert Architecture.from_dict(report["architecture"]) in SearchSpace.from_dict(SPACE)
    assert set(report["stages"]) == set(STAGES)
    assert report["data_summary"]["splits"] == {"train": 96, "validation": 32, "test": 32}
    assert {one["name"] for one in report["data_summary"]["classes"]} == set(LIBRARIES)
    assert 0.5 <= report["baseline_score"] < 0.7
    page = (finished / "result" / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "")


def test_the_model_works_without_this_package(finished: Path) -> None:
    """Stock transformers and ONNX Runtime in a new process, with equal scores and logits."""
    program = """
import json, sys
import numpy as np, onnxruntime, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained("result/model").eval()
tokenizer = AutoTokenizer.from_pretrained("result/model")
session = onnxruntime.InferenceSession("result/model.onnx")
texts = ["Return the shortest path between two nodes of a graph.", "Fit the model to data."]
batch = tokenizer(texts, padding=True, return_tensors="pt")
with torch.no_grad():
    torch_logits = model(**batch).logits.numpy()
names = [i.name for i in session.get_inputs()]
onnx_logits = session.run(["logits"], {n: batch[n].numpy() for n in names})[0]
assert not any(m.split(".")[0] in ("nas", "supernet", "latency") for m in sys.modules)
print(json.dumps([float(np.abs(torch_logits - onnx_logits).max()), model.config.id2label["0"]
    if "0" in model.config.id2label else model.config.id2label[0]]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=finished,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    difference, label = json.loads(ended.stdout.splitlines()[-1])
    assert difference < 1e-4
    assert label == "networkx"


def test_the_reloaded_model_has_the_reports_score(finished: Path, report: dict[str, Any]) -> None:
    model = finished / "result" / "model"
    held_out = load_held_out(str(finished / "data"), "test", model_head(model), seed=0)
    found = evaluate_folder(model, held_out, Target(**TARGET), max_length=24)
    scores = [value for name, value in found.items() if name.startswith("accuracy (test")]
    assert scores == [f"{report['score']:.4f}"]
