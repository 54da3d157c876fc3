"""What ``nas search`` kept a version ago: a workspace, results, a study, profiles, a target."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latency.fingerprint import Fingerprint
from latency.options import load_target
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.target import Latency, Target
from nas.report.record import read_front
from nas.search.constraints import Limits
from nas.search.goals import Goal
from nas.search.score_cache import ScoreCache
from nas.store.manifest import artifact_key
from nas.store.workspace import Workspace
from supernet.architecture import Architecture, EncoderShape
from supernet.configs import load_space
from supernet.errors import NasError
from tests.compatibility.conftest import Command

SMALL = Architecture.uniform(num_layers=1, hidden_size=8, num_heads=1, intermediate_size=16)
LARGE = Architecture.uniform(num_layers=2, hidden_size=16, num_heads=2, intermediate_size=32)


def manifests(workspace: Path) -> dict[str, bytes]:
    """Every artifact's manifest by its folder."""
    return {
        str(path.parent.relative_to(workspace)): path.read_bytes()
        for path in sorted(workspace.glob("*/*/manifest.json"))
    }


def test_every_artifact_is_found_by_what_it_was_made_from(place: Path) -> None:
    def build(folder: Path) -> None:
        pytest.fail(f"{folder.parent.name} is built again")

    workspace = Workspace(place / "workspace", warn=pytest.fail)
    found = manifests(workspace.root)
    for folder, content in found.items():
        manifest = json.loads(content)
        stage, inputs = manifest["stage"], manifest["inputs"]
        assert artifact_key(stage, inputs) == manifest["key"]
        artifact = workspace.artifact(stage, inputs, build)
        assert artifact.path == workspace.root / folder
        assert artifact.seconds == manifest["seconds"]
        assert artifact.reused
    assert {folder.partition("/")[0] for folder in found} == {
        "choice", "profile", "racer", "search", "student", "supernet", "teacher"
    }  # fmt: skip


class OtherMachine:
    """Stands in for the machine that the samples were made on: it measures no profile anew."""

    identity = ""

    def __init__(self, fingerprint: Fingerprint) -> None:
        self._fingerprint = fingerprint

    def fingerprint(self, target: Target) -> Fingerprint:
        return self._fingerprint

    def profile(self, *_: Any, **__: Any) -> Profile:
        pytest.fail("the profile is measured again")

    def time(
        self, models: list[Architecture | Path], target: Target, shape: EncoderShape, *, rounds: int
    ) -> list[Latency]:
        """The same for all models but the last, which is the teacher."""
        return [*(Latency.of([0.25]) for _ in models[1:]), Latency.of([1.0])]


@pytest.mark.slow
def test_a_search_goes_on_in_the_workspace(
    place: Path, monkeypatch: pytest.MonkeyPatch, nas: Command
) -> None:
    """The teacher and the supernet are not trained again; the student is, in today's way.

    The search itself is looked for anew, from the scores that stand there: its key holds what
    the latency predictor promises to the last digit, and a fit's last digits change with the code.
    """
    monkeypatch.chdir(place)
    before = manifests(place / "workspace")
    (profile,) = (place / "workspace" / "profile").iterdir()
    machine = OtherMachine(Profile.load(profile / "profile.json").fingerprint)
    for name in ("fingerprint", "profile", "time"):
        monkeypatch.setattr(
            "latency.device.ThisMachine." + name,
            lambda _, *given, _method=getattr(machine, name), **named: _method(*given, **named),
        )
    scores = (place / "workspace" / "scores.jsonl").read_text()
    printed = nas(
        *("search", "--teacher", "teacher", "--data", "data", "--space", "space.yaml"),
        *("--target", "target.yaml", "--workspace", "workspace", "--study", "sqlite:///study.db"),
        *("--latency", "5ms@p95", "--recipe", "supernet.yaml", "--output", "again"),
    )
    assert "Budget met: 0.25 ms" in printed
    after = manifests(place / "workspace")
    assert {folder: after[folder] for folder in before} == before
    anew = {folder.partition("/")[0] for folder in after.keys() - before}
    assert anew <= {"search", "choice", "student"}
    assert (place / "workspace" / "scores.jsonl").read_text().startswith(scores)
    report, again = (
        json.loads((place / output / "report.json").read_text())
        for output in ("result-supernet", "again")
    )
    for name in ("architecture", "teacher_score", "parameters", "data", "data_summary"):
        assert again[name] == report[name]


def test_a_distillation_goes_on_in_the_workspace(
    place: Path, monkeypatch: pytest.MonkeyPatch, nas: Command
) -> None:
    monkeypatch.chdir(place)
    before = manifests(place / "workspace")
    nas(
        *("distill", json.dumps(SMALL.to_dict()), "--teacher", "narrow", "--data", "values"),
        *("--workspace", "workspace", "--recipe", "race.yaml", "--output", "again"),
    )
    after = manifests(place / "workspace")
    assert {folder: after[folder] for folder in before} == before
    (student,) = after.keys() - before
    assert student.startswith("student/"), "students are trained in today's way, nothing else is"
    told, again = (
        json.loads((place / folder / "distillation.json").read_text())
        for folder in ("distilled", "again")
    )
    for one in (told, again):
        del one["recipe"], one["seconds"]  # settings that went are no longer told
        del one["score"]
    assert again == told
    assert told["metric"] == "pearson_spearman"


def test_a_result_is_read(kept: Path, nas: Command) -> None:
    report = json.loads((kept / "result" / "report.json").read_text())
    shown = read_front(kept / "result")
    assert shown.metric == "accuracy"
    assert shown.model == (report["measured_p50_ms"], report["score"])
    assert shown.teacher == (report["teacher_p50_ms"], report["teacher_score"])
    assert len(shown.evaluations) == len(report["evaluations"]) == 5
    assert [point.latency_ms for point in shown.points] == sorted(
        point["latency_ms"] for point in report["front"]
    )
    printed = nas("front", str(kept / "result"), "--latency", "1ms")
    assert str(shown.points[0].architecture) in printed


def test_a_result_is_another_devices_front(kept: Path, tmp_path: Path, nas: Command) -> None:
    profile = json.loads((kept / "bundled.json").read_text())
    profile["count_disturbed"] = True  # the machine was busy when the sample was made
    (tmp_path / "device.json").write_text(json.dumps(profile))
    printed = nas("front", str(kept / "result"), "--profile", str(tmp_path / "device.json"))
    assert "on cpu onnxruntime float32, 1 thread, batch 1, sequence 8" in printed


def test_a_model_is_loaded(kept: Path) -> None:
    import onnxruntime
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    import supernet.student  # noqa: F401 - transformers learns the models' type from it

    folder = kept / "result" / "model"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("word4 word0 word9", return_tensors="pt")
    with torch.no_grad():
        logits = model(**tokens).logits.numpy()
    assert model.config.id2label == {0: "class0", 1: "class1", 2: "class2"}
    session = onnxruntime.InferenceSession(kept / "result" / "model.onnx")
    names = [one.name for one in session.get_inputs()]
    (exported,) = session.run(None, {name: tokens[name].numpy() for name in names})
    np.testing.assert_allclose(logits, exported, atol=1e-5)
    assert model.config.id2label[int(logits.argmax())] == "class1"


@pytest.mark.parametrize("name", ["workspace/profile/*/profile.json", "bundled.json"])
def test_a_profile_predicts(kept: Path, name: str) -> None:
    (path,) = kept.glob(name)
    profile = Profile.load(path)
    data = json.loads(path.read_text())
    assert profile.to_dict() == data
    assert profile.complete
    assert len(profile.measurements) == len(data["measurements"]) > 20
    predictor = LatencyPredictor(replace(profile, count_disturbed=True)).fit()
    small, large = predictor.predict([SMALL, LARGE], target=load_target(str(kept / "target.yaml")))
    assert 0.001 < small < large < 1


def test_a_target_is_read(kept: Path) -> None:
    assert load_target(str(kept / "target.yaml")) == Target(
        device="cpu", runtime="onnxruntime", threads=1, dtype="float32", batch_size=1,
        sequence_length=8,
    )  # fmt: skip


def scored(kept: Path) -> dict[tuple[str, str], dict[Architecture, float]]:
    """What the lines of the score cache say, by supernet and data."""
    found: dict[tuple[str, str], dict[Architecture, float]] = {}
    for line in (kept / "workspace" / "scores.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "score" in record:
            architecture = Architecture.from_dict(record["architecture"])
            context = found.setdefault((record["supernet"], record["data"]), {})
            context[architecture] = record["score"]
    return found


def test_scores_are_read(kept: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    shutil.copy(kept / "workspace" / "scores.jsonl", path)
    found = scored(kept)
    assert sorted(len(scores) for scores in found.values()) == [5, 5]
    for (supernet, data), scores in found.items():
        cache = ScoreCache(path, supernet=supernet, data=data, warn=pytest.fail)
        assert len(cache) == len(scores)
        assert {architecture: cache[architecture] for architecture in scores} == scores


def test_a_study_is_recalled_and_added_to(place: Path) -> None:
    pytest.importorskip("optuna", reason="needs tailorbert[optuna]")
    from nas.search.study import SearchStudy

    space = load_space(str(place / "space.yaml"))
    goals = {"cpu": [Goal(lambda many: np.ones(len(many)), Limits(5.0))]}
    for (supernet, data), scores in scored(place).items():
        study = SearchStudy(
            f"sqlite:///{place / 'study.db'}", f"sample score {supernet[:8]}", space, goals,
            supernet=supernet, data=data, warn=pytest.fail,
        )  # fmt: skip
        assert study.recall() == scores
        new = next(one for batch in space.enumerate() for one in batch if one not in scores)
        study.record([new], [0.5])
        assert study.recall() == scores | {new: 0.5}


def test_a_profile_of_a_later_version_is_refused_in_one_line(kept: Path, tmp_path: Path) -> None:
    data = json.loads((kept / "bundled.json").read_text())
    path = tmp_path / "later.json"
    path.write_text(json.dumps(data | {"version": data["version"] + 1}))
    with pytest.raises(NasError, match="version") as refused:
        Profile.load(path)
    assert "\n" not in str(refused.value)
