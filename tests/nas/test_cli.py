"""What a user sees of faults: one line that says what to mend, exit code 2, nothing left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer, GPT2Config

from nas import cli
from nas.commands.searching import output_folders
from supernet.errors import NasError

Run = Callable[..., str]


@pytest.fixture
def fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Runs ``nas`` in an empty folder, and returns its one line of complaint."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["nas", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 2
        assert not (folder / "result").exists()
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nas: ")]
        assert len(lines) == 1
        return lines[0]

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"text": f"{word} number {i}", "label": word} for i in range(30) for word in ("a", "b")]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def search(*arguments: str, latency: str = "2x") -> list[str]:
    return ["search", "--latency", latency, "-o", "result", *arguments]


@pytest.mark.parametrize("budget", ["fast", "5", "-5ms", "0x", "5ms@p99"])
def test_a_budget_that_is_none(fault: Run, budget: str) -> None:
    assert "budget" in fault(*search(latency=budget)) or "percentile" in fault(
        *search(latency=budget)
    )


@pytest.mark.parametrize("option", ["space", "target", "recipe"])
def test_an_unknown_configuration_names_those_known(fault: Run, option: str) -> None:
    assert f"{option} 'nonesuch' is unknown; known are" in fault(*search(f"--{option}", "nonesuch"))


@pytest.mark.parametrize(
    ("yaml", "complaint"),
    [
        ("temprature: 2", "unknown key temprature"),
        ("distill: {temprature: 2}", "unknown key distill.temprature"),
        (
            "supernet: {training: {epochs: 2, learning_rate: 1.0e-4, epoch: 2}}",
            "unknown key supernet.training.epoch",
        ),
        ("search: {evaluation: 2}", "unknown key search.evaluation"),
        ("search: {evaluations: 0}", "evaluations"),
        ("max_length: long", "max_length"),
        ("headroom: 2", "headroom"),
        ("- 1", "needs keys and values"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_recipe_with_a_mistake(fault: Run, tmp_path: Path, yaml: str, complaint: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml)
    assert complaint in fault(*search("--recipe", str(recipe)))


def test_a_teacher_that_is_not_there(fault: Run) -> None:
    assert "neither a model folder here nor a hub id" in fault(*search("--teacher", "no/such"))


def test_a_teacher_that_is_not_bert_like(fault: Run, tmp_path: Path, data: Path) -> None:
    GPT2Config().save_pretrained(tmp_path / "gpt2")
    line = fault(*search("--teacher", str(tmp_path / "gpt2"), "--data", str(data)))
    assert "'gpt2' is not BERT-like; accepted are bert" in line


def test_a_teacher_with_a_head_for_other_labels(fault: Run, tmp_path: Path, data: Path) -> None:
    config = BertConfig(
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        num_labels=3,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "teacher")
    BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    ).save_pretrained(tmp_path / "teacher")  # fmt: skip
    line = fault(*search("--teacher", str(tmp_path / "teacher"), "--data", str(data)))
    assert "predicts 3 labels, the data has 2; fine-tune it first: nas finetune" in line


def test_data_that_is_missing(fault: Run) -> None:
    assert "nowhere" in fault(*search("--data", "./nowhere"))


def test_data_that_is_empty(fault: Run, data: Path) -> None:
    (data / "train.jsonl").write_text("")
    assert "train" in fault(*search("--data", str(data)))


def test_a_label_column_that_is_absent(fault: Run, data: Path) -> None:
    line = fault(*search("--data", str(data), "--label", "mood"))
    assert "mood" in line
    assert "label" in line


def test_an_output_that_holds_other_things(fault: Run, tmp_path: Path, data: Path) -> None:
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    line = fault("search", "--latency", "2x", "--data", str(data), "-o", str(other))
    assert "is no earlier result" in line
    assert (other / "thesis.txt").read_text() == "mine"


def test_an_output_that_holds_more_than_a_result(fault: Run, tmp_path: Path, data: Path) -> None:
    """A report.json alone does not make a folder ours to replace."""
    other = tmp_path / "here" / "project"
    other.mkdir()
    (other / "report.json").write_text("{}")
    (other / "main.c").write_text("int main;")
    line = fault("search", "--latency", "2x", "-o", "project", "--data", str(data))
    assert "exists and is no earlier result" in line
    assert (other / "main.c").is_file()


def test_an_output_that_is_the_workspace(fault: Run) -> None:
    line = fault("search", "--latency", "2x", "-o", "here", "--workspace", "here/there")
    assert "would replace the workspace" in line


def test_a_workspace_at_an_unknown_kind_of_url_is_named(fault: Run) -> None:
    line = fault("search", "--latency", "2x", "-o", "here", "--workspace", "nowhere://team")
    assert "workspace nowhere://team: Protocol not known: nowhere" in line


def test_an_output_that_cannot_be_made(fault: Run, tmp_path: Path) -> None:
    (tmp_path / "here" / "file").touch()
    line = fault("search", "--latency", "2x", "-o", "file/result")
    assert "is no folder to write to" in line


def test_more_tokens_than_the_teacher_has_positions(fault: Run, tmp_path: Path, data: Path) -> None:
    (tmp_path / "long.yaml").write_text("max_length: 1024")
    line = fault(*search("--recipe", str(tmp_path / "long.yaml"), "--data", str(data)))
    assert "max_length 1024 is more than the teacher's 512 positions" in line


def test_an_activation_without_onnx_form(fault: Run, tmp_path: Path, data: Path) -> None:
    BertConfig(hidden_act="silu", num_labels=2).save_pretrained(tmp_path / "teacher")
    line = fault(*search("--teacher", str(tmp_path / "teacher"), "--data", str(data)))
    assert "hidden_act must be one of gelu, gelu_new" in line
    assert "'silu'" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--latency", "2x"], "latency '2x' is given twice"),
        (["--target", "cpu", "--target", "cpu"], "target 'cpu' is given twice"),
        (["--target", "cpu", "--target", "toaster"], "toaster"),
        (["--algorithm", "annealing"], "algorithm must be one of guided"),
        (["--ray-workers", "2"], "--ray-workers, --ray-train-workers and --ray-trials need --ray"),
        (["--ray-trials", "2"], "--ray-workers, --ray-train-workers and --ray-trials need --ray"),
        (["--ray", "auto", "--ray-cpus", "0"], "cpus and gpus of a worker must not both be 0"),
        (["--ray", "auto", "--ray-gpus", "1.5"], "gpus above 1 must be a whole number"),
    ],
)
def test_faults_in_what_several_budgets_and_a_cluster_add(
    fault: Run, arguments: list[str], told: str
) -> None:
    assert told in fault(*search(*arguments))


@pytest.mark.parametrize(
    ("latency", "target", "names"),
    [
        (["4x"], ["cpu"], ["."]),
        (["4x", "2ms"], ["cpu"], ["4x", "2ms"]),
        (["4x"], ["cpu", "configs/targets/cpu-1-thread.yaml"], ["cpu-4x", "cpu-1-thread-4x"]),
        (["4x", "2ms"], ["a", "b"], ["a-4x", "a-2ms", "b-4x", "b-2ms"]),
    ],
)
def test_each_budget_on_each_target_has_a_folder(latency, target, names) -> None:
    found = output_folders(Path("out"), latency, target)
    assert found == [Path("out") / name for name in names]


def test_targets_of_one_name_would_share_a_folder() -> None:
    with pytest.raises(NasError, match="two targets are named 'cpu'"):
        output_folders(Path("out"), ["4x"], ["cpu", "mine/cpu.yaml"])


@pytest.mark.parametrize("plot", ["front.txt", "nowhere/front.png"])
def test_a_plot_that_cannot_be_drawn(fault: Run, plot: str) -> None:
    assert f"plot {plot}" in fault("front", "result", "--plot", plot)


def test_a_package_that_is_missing(fault: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nas.models.measured", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "needs the package onnx: pip install" in fault("evaluate", "result")


def test_commands_on_what_is_no_result(fault: Run, tmp_path: Path) -> None:
    assert "report.json cannot be read" in fault("front", str(tmp_path))
    assert "holds no model" in fault("evaluate", str(tmp_path), "--data", "pydoc")


ARCHITECTURE = json.dumps(
    {
        "hidden_size": 64,
        "layers": [{"num_heads": 2, "qkv_size": 64, "intermediate_size": 128}],
    }
)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["distill", "nowhere", "-o", "result"], "neither JSON nor a file or folder"),
        (["distill", "{}", "-o", "result"], "architecture"),
        (["distill", ARCHITECTURE, "-o", "result", "--recipe", "tiny"], "recipe 'tiny' is unknown"),
        (["distill", ARCHITECTURE, "-o", "result", "--data", "nowhere"], "nowhere"),
        (
            ["compress", ARCHITECTURE, "-o", "result", "--ratio", "2", "--target", "cpu-torch"],
            "forms are compared in onnxruntime",
        ),
        (["quantize", "nowhere", "-o", "result"], "nowhere holds no model"),
        (["compare", "nowhere"], "nowhere holds no model"),
        (["compare", "nowhere", "--plot", "front.gif"], "front.gif"),
    ],
)
def test_students_and_models_that_are_none(
    fault: Run, arguments: list[str], complaint: str
) -> None:
    assert complaint in fault(*arguments)


def test_a_layer_that_cannot_be_replaced(fault: Run, data: Path) -> None:
    assert "hidden size must be the teacher's 384, not 64" in fault(
        "distill", ARCHITECTURE, "-o", "result", "--recipe", "theseus", "--data", str(data)
    )


def test_help_teaches() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "from nas.cli import main; main()", "search", "--help"],
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "PATH": ""},
        check=True,
    ).stdout
    for word in ("--latency", "5ms", "4x", "--teacher", "--data", "--space", "--target", "Example"):
        assert word in shown


def test_help_starts_without_torch() -> None:
    code = (
        "import sys; import nas.cli; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]
