"""The main job with every real part: the embedded teacher, real paragraphs, this machine's clock.

Small in every setting, so that it takes a minute; what it learns is little, and that is not tested.
Each run is a process of its own, forked from one that has the libraries loaded: loading them anew
would cost each some six seconds more.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from nas.cli import main
from supernet.architecture import Architecture, EncoderShape
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
        "texts": "",  # the data's own folder
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
STAGES = ("profile", "teacher", "supernet", "search", "choice", "racer", "student")
"""In the order in which a run comes to them."""

FORKS = multiprocessing.get_context("forkserver")


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Place:
    """A folder with data, space, recipe, and a workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self, *more: str, latency: str = "1ms", output: str = "result") -> ForkServerProcess:
        """``nas search`` in a new process.

        All of the space takes far less than a millisecond, so that what is chosen does not hang on
        what other tests leave of the machine.
        """
        given = {
            "latency": latency, "output": output, "workspace": "workspace",
            "data": "data", "space": "space.yaml", "recipe": "recipe.yaml",
            "target": "target.yaml",
        }  # fmt: skip
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        process = FORKS.Process(target=nas, args=(self.root, ["search", *words, *more]))
        process.start()
        return process

    def run(self, *more: str, **options: str) -> Ended:
        return self._ended(self.start(*more, **options))

    def command(self, *words: str) -> Ended:
        """Any ``nas`` command in a new process."""
        process = FORKS.Process(target=nas, args=(self.root, list(words)))
        process.start()
        return self._ended(process)

    def _ended(self, process: ForkServerProcess) -> Ended:
        process.join()
        assert process.exitcode is not None
        stdout, stderr = ((self.root / name).read_text() for name in ("stdout", "stderr"))
        return Ended(process.exitcode, stdout, stderr)

    def report(self, output: str = "result") -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.root / output / "report.json").read_text())
        return report

    def copy(self, root: Path) -> Place:
        return Place(Path(shutil.copytree(self.root, root)))


def nas(folder: Path, arguments: list[str]) -> None:
    """What a process of the command line does, standing in ``folder``, where its output goes."""
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["nas", *arguments]
    main()


@pytest.fixture(scope="module", autouse=True)
def libraries_loaded() -> None:
    FORKS.set_forkserver_preload(["nas.pipeline.pipeline"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An undisturbed run."""
    from nas.data.pydoc import _root, read_paragraphs

    place = Place(tmp_path_factory.mktemp("finished"))
    (place.root / "data").mkdir()
    rows = [
        {"text": text, "label": library}
        for library in LIBRARIES
        for text in sorted(read_paragraphs(_root(library)))[:160]
    ]
    (place.root / "data" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = RECIPE | {"general": RECIPE["general"] | {"texts": "data"}}  # type: ignore[operator]
    (place.root / "space.yaml").write_text(yaml.safe_dump(SPACE))
    (place.root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (place.root / "target.yaml").write_text(yaml.safe_dump(TARGET))
    ended = place.run()
    assert ended.returncode == 0, ended.stderr
    assert "Budget met" in ended.stdout
    return place


def test_a_space_may_have_compressed_layers(finished: Place, tmp_path: Path) -> None:
    """One has to be taken here: with whole layers no model is as small as asked."""
    place = finished.copy(tmp_path / "compressed")
    space = SPACE | {"compression": [1, 2]}
    (place.root / "space.yaml").write_text(yaml.safe_dump(space))
    smallest = SearchSpace.from_dict(space).smallest
    cap = smallest.whole.parameters(EncoderShape(num_labels=len(LIBRARIES))) - 1
    ended = place.run("--max-parameters", str(cap))
    assert ended.returncode == 0, ended.stderr
    supernets = [path.name for path in (place.root / "workspace" / "supernet").iterdir()]
    assert len(supernets) == 1, "the supernet of whole layers serves"
    architecture = Architecture.from_dict(place.report()["architecture"])
    assert architecture.is_factored
    config = json.loads((place.root / "result" / "model" / "config.json").read_text())
    assert set(config["factors"]) == set(architecture.factors)
    assert place.report()["parameters"] == architecture.parameters(
        EncoderShape(num_labels=len(LIBRARIES))
    )


def test_the_report_says_what_was_asked_and_measured(finished: Place) -> None:
    report = finished.report()
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
    page = (finished.root / "result" / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "")


def test_the_model_works_without_this_package(finished: Place) -> None:
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
        cwd=finished.root,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    difference, label = json.loads(ended.stdout.splitlines()[-1])
    assert difference < 1e-4
    assert label == "networkx"


def test_the_reloaded_model_has_the_reports_score(finished: Place) -> None:
    from latency.target import Target
    from nas.data.held_out import load_held_out
    from nas.models.compare import evaluate_folder
    from nas.models.measured import model_head

    report, model = finished.report(), finished.root / "result" / "model"
    held_out = load_held_out(str(finished.root / "data"), "test", model_head(model), seed=0)
    found = evaluate_folder(model, held_out, Target(**TARGET), max_length=24)
    scores = [value for name, value in found.items() if name.startswith("accuracy (test")]
    assert scores == [f"{report['score']:.4f}"]


def test_one_search_serves_several_budgets_and_its_result_answers_more(
    finished: Place, tmp_path: Path
) -> None:
    place = finished.copy(tmp_path / "copy")
    shutil.rmtree(place.root / "result")
    ended = place.run("--latency", "10x", "--study", "sqlite:///searches.db")
    assert ended.returncode == 0, ended.stderr
    reports = [place.report(f"result/{budget}") for budget in ("1ms", "10x")]
    assert [report["met"] for report in reports] == [True, True]
    evaluated = [[one["architecture"] for one in r["evaluations"]] for r in reports]
    assert evaluated[0] == evaluated[1]

    import optuna

    (study,) = optuna.get_all_study_summaries("sqlite:///" + str(place.root / "searches.db"))
    assert study.n_trials == len(evaluated[0])

    (profile,) = (place.root / "workspace" / "profile").glob("*/profile.json")
    fastest = min(one["latency_ms"] for one in reports[0]["evaluations"])
    budget = f"{2 * fastest:.4f}ms"
    place.command("front", "result/1ms", "--latency", budget, "--profile", str(profile))
    assert f"{budget}: " in (place.root / "stdout").read_text()


def test_a_cluster_finds_what_one_process_finds(finished: Place, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    place = finished.copy(tmp_path / "copy")
    shutil.rmtree(place.root / "workspace" / "search")
    (place.root / "workspace" / "scores.jsonl").unlink()
    ended = place.run("--ray", "local", "--ray-workers", "2", output="by-cluster")
    assert ended.returncode == 0, ended.stderr
    ours, theirs = finished.report(), place.report("by-cluster")
    for key in ("architecture", "evaluations", "front"):
        assert ours[key] == theirs[key]


def test_an_infeasible_budget_names_a_feasible_one(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path / "copy")
    ended = place.run(latency="0.0001ms", output="none")
    assert ended.returncode == 2
    assert "the least feasible budget is" in ended.stderr.splitlines()[-1]
    assert not (place.root / "none").exists()


KILLED = ("supernet", "racer", "student")
"""The stages that train longest, each from its own checkpoints.

That a stage resumes exactly, wherever it is killed, is tested with that stage (the profile, the
search, the trainers, the race) and with a stub in tests/nas/store/test_workspace.py.
"""


def kill_within(place: Place, stage: str) -> None:
    """Begin a run and kill it in ``stage``; where that has ended too soon, take it back first."""
    for _ in range(5):
        process = place.start()
        begun: list[Path] = []
        while not begun and process.is_alive():
            time.sleep(0.02)
            begun = list((place.root / "workspace").glob(f"{stage}/*.partial"))
        time.sleep(0.3)
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGSTOP)
        within = bool(begun) and begun[0].exists()
        process.kill()
        process.join()
        if within:
            return
        shutil.rmtree(place.root / "workspace" / stage)
        shutil.rmtree(place.root / "result", ignore_errors=True)
    pytest.fail(f"five runs ended their stage {stage} before they were killed")


def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(
    finished: Place, tmp_path: Path
) -> None:
    """Killed in one stage, started again and killed in the next, and so on."""
    place = finished.copy(tmp_path / "copy")
    shutil.rmtree(place.root / "workspace")
    shutil.rmtree(place.root / "result")
    for stage in KILLED:
        kill_within(place, stage)
    assert not (place.root / "result").exists()

    ended = place.run()
    assert ended.returncode == 0, ended.stderr
    ours, undisturbed = place.report(), finished.report()
    assert ours["architecture"] == undisturbed["architecture"]
    assert ours["score"] == undisturbed["score"]


def test_a_corrupt_artifact_is_rebuilt(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path / "copy")
    (weights,) = (place.root / "workspace").glob("student/*/model/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    ended = place.run()
    assert ended.returncode == 0, ended.stderr
    assert "is corrupt (model/model.safetensors was altered): replacing it" in ended.stderr
    assert place.report()["score"] == finished.report()["score"]
