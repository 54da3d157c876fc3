"""What a user sees of ``latency``: tables, one line of complaint, what goes on where it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latency import cli
from latency.commands.printing import err, out
from latency.profile import Profile
from latency.target import Workload
from latency.timing import Record
from tests.latency.conftest import HASTY

Run = Callable[..., tuple[int, str, str]]
ONE = {"hidden_size": 64, "layers": [{"num_heads": 2, "qkv_size": 64, "intermediate_size": 128}]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs ``latency`` in an empty folder; returns its exit code, output and complaints."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["latency", *arguments])
        for console in (out, err):
            monkeypatch.setattr(console, "_width", 160)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def fault(run: Run) -> Callable[..., str]:
    """As ``run``, for what fails: returns its one line of complaint."""

    def call(*arguments: str) -> str:
        code, _, complaints = run(*arguments)
        assert code == 2
        lines = [line for line in complaints.splitlines() if line.startswith("latency: ")]
        assert len(lines) == 1
        return lines[0]

    return call


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured counts, however busy the machine that runs the tests; and it is little."""
    monkeypatch.setattr(Record, "is_steady", lambda *_: True)
    monkeypatch.setattr("latency.profiler._PROTOCOL", HASTY)
    monkeypatch.setattr("latency.profiler.LEAST_DRAWN", 10)


@pytest.fixture
def saved(make_profile, tmp_path: Path) -> Path:
    path = tmp_path / "pi.json"
    make_profile(workloads=(Workload(1, 64), Workload(4, 32))).save(path)
    return path


# ---- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--time", "soon"], "time 'soon' is not understood"),
        (["--time", "0"], "time '0' is not understood"),
        (["--error", "0.03"], "error '0.03' is not understood"),
        (["--batch", "1,x"], "batch '1,x' is not understood"),
        (["--sequence", "0"], "sequence '0' is not understood"),
        (["--sequence", "64", "--lengths", "some.json"], "either --sequence or --lengths"),
        (["--lengths", "none.json"], "cannot be read"),
        (["--space", "nonesuch"], "space 'nonesuch' is unknown; known are"),
        (["--space", "none.yaml"], "cannot be read"),
        (["--target", "nonesuch"], "target 'nonesuch' is unknown; known are"),
        (["--runtime", "tensorrt"], "runtime must be one of"),
        (["--device", "tpu"], "device must be one of"),
        (["--dtype", "float16"], "not float16"),
        (["--threads", "0"], "--threads"),
        (["--threads", "two"], "--threads"),
        (["--sequence", "1024", "--time", "1"], "exceeds the model's 512 positions"),
        (["--colour"], "--colour"),
    ],
)
def test_options_of_profile(fault, options, says) -> None:
    assert says in fault("profile", "-o", "pi.json", *options)
    assert not Path("pi.json").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1]", "needs keys and values"),
        ("{", "not valid YAML"),
        ('{"a": 1}', "must map tokens to shares"),
        ('{"16": -1, "32": 2}', "must be above 0"),
    ],
)
def test_a_histogram_with_a_mistake(fault, content, says) -> None:
    Path("lengths.json").write_text(content)
    assert says in fault("profile", "-o", "pi.json", "--lengths", "lengths.json")


def test_what_is_missing(fault) -> None:
    assert "'--output'" in fault("profile")
    assert "architectures" in fault("predict", "pi.json").lower()
    assert "'nonesuch'" in fault("nonesuch")


@pytest.mark.parametrize("command", ["show", "predict", "compare", "merge"])
def test_a_profile_that_is_none(fault, saved: Path, command: str) -> None:
    rest = {
        "predict": [json.dumps(ONE)], "compare": [str(saved)],
        "merge": [str(saved), "-o", "both.json"], "show": [],
    }[command]  # fmt: skip
    assert "none.json cannot be read" in fault(command, "none.json", *rest)
    Path("torn.json").write_text('{"format": ')
    assert "torn.json is not valid JSON" in fault(command, "torn.json", *rest)
    Path("other.json").write_text("{}")
    assert "not a latency profile" in fault(command, "other.json", *rest)


FACTORED = {
    "model_type": "tailorbert",
    "factors": {"embeddings.word_embeddings": [30522, 4, 1, 8, 1]},
    **ONE,
}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["6x384"], "neither JSON nor a file"),
        (["{}"], "needs exactly the keys"),
        ([json.dumps(FACTORED)], "factored as those of no space are: measure it"),
        (["[]"], "no architecture to predict"),
        ([json.dumps(ONE), "--percentile", "99"], "percentile must be 50 or 95"),
        ([json.dumps(ONE), "--confidence", "1"], "confidence must be above 0"),
        ([json.dumps(ONE), "--sequence", "128"], "what lies between, the target asks"),
        ([json.dumps(ONE), "--batch", "0"], "--batch"),
        ([json.dumps(ONE), "--target", "cpu"], "profile is of threads 1"),
        ([json.dumps(ONE), "--lengths", "none.json"], "cannot be read"),
    ],
)
def test_options_of_predict(fault, saved: Path, options, says) -> None:
    assert says in fault("predict", str(saved), *options)


@pytest.mark.parametrize("plot", ["front.txt", "nowhere/front.png"])
def test_a_plot_that_cannot_be_drawn(fault, saved: Path, plot: str) -> None:
    assert f"plot {plot}" in fault("show", str(saved), "--plot", plot)
    assert f"plot {plot}" in fault("compare", str(saved), str(saved), "--plot", plot)


def test_a_package_that_is_missing(fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "latency.runtimes.onnx_runtime", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "needs the package onnxruntime" in fault("profile", "-o", "pi.json", "--space", "tiny")


def test_profiles_that_do_not_go_together(fault, saved: Path, make_profile) -> None:
    data = json.loads(saved.read_text())
    Path("other.json").write_text(
        json.dumps(data | {"fingerprint": data["fingerprint"] | {"cpu": "Z80"}})
    )
    line = fault("merge", str(saved), "other.json", "-o", "both.json")
    assert "another machine or software" in line
    make_profile(space="tiny", workloads=(Workload(1, 128),)).save(Path("long.json"))
    assert "no workload in common" in fault("compare", str(saved), "long.json")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--target", "cpu-torch"], "a bundle runs onnxruntime on cpu"),
        (["--drawn", "3"], "--drawn"),
        (["--dtype", "float64"], "dtype must be one of"),
        (["--sequence", "1024"], "exceeds the model's 512 positions"),
        (["--space", "nonesuch"], "space 'nonesuch' is unknown"),
    ],
)
def test_options_of_bundle(fault, options, says) -> None:
    assert says in fault("bundle", "-o", "bundle.pyz", *options)
    assert not Path("bundle.pyz").exists()


def test_every_option_of_bundle_reaches_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    def write(path: Path, *of: Any, progress: Any, **how: Any) -> int:
        progress(1, 2)
        written.append((path, of, how))
        return 12_000_000

    monkeypatch.setattr("latency.bundle.write_bundle", write)
    words = "--chosen 7 --drawn 21 --threads 3 --batch 2,4 --sequence 16,32 --seed 5 --space tiny"
    code, output, _ = run("bundle", "-o", "odd.pyz", *words.split())
    assert code == 0
    assert output.startswith("odd.pyz: 12.0 MB.")
    ((path, (target, spaces, workloads), how),) = written
    assert path == Path("odd.pyz")
    assert (target.batch_size, target.sequence_length, target.threads) == (2, 16, 3)
    assert [space.name for space in spaces] == ["tiny"]
    assert set(workloads) == {Workload(b, s) for b in (2, 4) for s in (16, 32)}
    assert how == {"threads": 3, "chosen": 7, "drawn": 21, "seed": 5}


# ---- what works --------------------------------------------------------------------------------


def test_a_device_is_profiled(run: Run, calm) -> None:
    code, output, complaints = run(
        "profile", "-o", "pi.json", "--time", "1", "--threads", "1", "--space", "tiny",
        "--batch", "1,2", "--sequence", "8,16",
    )  # fmt: skip
    assert code == 0, complaints
    profile = Profile.load(Path("pi.json"))
    assert profile.complete
    assert len(profile.workloads) == 4
    assert profile.target.workload == Workload(1, 8)
    assert "floor" in output
    assert "within 10%" in output
    assert "1 thread" in complaints


def test_more_threads_than_cores_are_told_of_once_and_before_they_are_measured(
    run: Run, monkeypatch: pytest.MonkeyPatch, make_profile
) -> None:
    monkeypatch.setattr("latency.fingerprint.usable_cores", lambda: [0])
    found = make_profile()
    crowded = replace(found, target=replace(found.target, threads=2))

    def measured(*_: object, **__: object) -> Profile:
        err.print("measured")
        return crowded

    monkeypatch.setattr("latency.commands.profiling.profile_device", measured)
    code, _, complaints = run("profile", "-o", "pi.json", "--threads", "2")
    assert code == 0
    lines = complaints.splitlines()
    (told,) = [number for number, line in enumerate(lines) if "crowded: 2 threads" in line]
    assert told < lines.index("measured")


def test_what_was_interrupted_goes_on(run: Run, calm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the midst: one line, exit code 130, and what was measured is kept."""

    @contextmanager
    def impatient(*_: object) -> Iterator[Callable[[float, str], None]]:
        def show(share: float, note: str) -> None:
            if share > 0.2:
                raise KeyboardInterrupt

        yield show

    command = ["profile", "-o", "pi.json", "--time", "1", "--threads", "1", "--space", "tiny"]
    with monkeypatch.context() as patched:
        patched.setattr("latency.commands.profiling.bar", impatient)
        code, _, complaints = run(*command)
    assert code == 130
    assert "latency: interrupted; the same command goes on with pi.json" in complaints
    before = Profile.load(Path("pi.json"))
    assert not before.complete
    assert before.measurements
    code, output, _ = run("show", "pi.json")
    assert code == 0
    assert "not complete" in output
    assert run(*command)[0] == 0
    after = Profile.load(Path("pi.json"))
    assert after.complete
    assert after.measurements[: len(before.measurements)] == before.measurements
    assert len(after.sessions) == 2


def test_a_mix_of_lengths_is_profiled(run: Run, calm) -> None:
    Path("lengths.json").write_text('{"4": 3, "8": 1}')
    code, _, complaints = run(
        "profile", "-o", "pi.json", "--time", "1s", "--threads", "1", "--space", "tiny",
        "--lengths", "lengths.json",
    )  # fmt: skip
    assert code == 0, complaints
    profile = Profile.load(Path("pi.json"))
    assert profile.target.lengths == ((4, 0.75), (8, 0.25))
    assert profile.workloads == (Workload(1, 4), Workload(1, 8))


def test_a_profile_is_shown(run: Run, saved: Path) -> None:
    code, output, _ = run("show", str(saved), "--plot", "pi.svg")
    assert code == 0
    for word in ("1 thread", "minilm", "2026-01-01", "drawn", "floor", "largest", "within 5%"):
        assert word in output
    assert Path("pi.svg").read_text().startswith("<?xml")


def test_architectures_are_predicted(run: Run, saved: Path) -> None:
    Path("some.json").write_text(json.dumps([ONE, ONE]))
    code, output, _ = run("predict", str(saved), "some.json", json.dumps(ONE))
    assert code == 0
    assert output.count("1x64 2h q64 f128") == 3


def test_another_activation_is_pointed_out(run: Run, saved: Path) -> None:
    config = {"model_type": "tailorbert", "hidden_act": "relu", **ONE}
    Path("config.json").write_text(json.dumps(config))
    code, _, complaints = run("predict", str(saved), ".")
    assert code == 0
    assert "has relu, and the profile is of models with gelu" in complaints


def test_programs_read_predictions_as_json(run: Run, saved: Path) -> None:
    def predicted(*options: str) -> dict:
        code, output, complaints = run("predict", str(saved), json.dumps(ONE), "--json", *options)
        assert code == 0, complaints
        return json.loads(output)

    own = predicted()
    (row,) = own["architectures"]
    assert own["target"]["sequence_length"] == 64
    assert row["architecture"] == ONE
    assert 0 < row["predicted_ms"] <= row["upper_ms"]
    large = predicted("--batch", "4", "--sequence", "32")
    assert (large["target"]["batch_size"], large["target"]["sequence_length"]) == (4, 32)
    assert large["architectures"][0]["predicted_ms"] != row["predicted_ms"]
    late = predicted("--percentile", "95", "--confidence", "0.5")
    assert late["architectures"][0]["predicted_ms"] >= row["predicted_ms"]


def test_devices_are_compared(run: Run, saved: Path, make_profile) -> None:
    make_profile(slowdown=3.0).save(Path("slow.json"))
    code, output, _ = run("compare", str(saved), "slow.json", "--plot", "both.png")
    assert code == 0
    assert "pi is 3.0" in output
    assert "carries over" in output
    assert "the same target, machine and software" in output
    assert Path("both.png").stat().st_size > 1000


def test_profiles_are_merged(run: Run, saved: Path, make_profile) -> None:
    make_profile(space="tiny", seed=1).save(Path("tiny.json"))
    assert run("merge", str(saved), "tiny.json", "-o", "both.json")[0] == 0
    both = Profile.load(Path("both.json"))
    assert [space["name"] for space in both.spaces] == ["minilm", "tiny"]
    assert len(both.sessions) == 2


# ---- how it starts -----------------------------------------------------------------------------


def test_help_starts_without_anything_heavy() -> None:
    code = "import json, sys; import latency.cli; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "onnx", "onnxruntime", "scipy", "matplotlib", "pydantic"}
    assert heavy & set(json.loads(done.stdout)) == set()


@pytest.mark.parametrize("command", ["profile", "show", "predict", "compare", "merge", "bundle"])
def test_help_teaches(command: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "from latency.cli import main; main()", command, "--help"],
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "PATH": ""},
        check=True,
    ).stdout
    assert "Example" in shown
    assert f"latency {command}" in shown


def test_without_arguments_it_is_the_help(run: Run) -> None:
    code, output, complaints = run()
    assert code == 2
    assert "profile" in output + complaints
    assert "latency: " not in complaints


@pytest.mark.slow
def test_a_device_needs_neither_torch_nor_transformers(saved: Path, tmp_path: Path) -> None:
    """Profiling, showing, predicting and bundling with what `tailorbert[device]` brings."""
    lacking = ("accelerate", "matplotlib", "pandas", "sklearn", "torch", "transformers")
    commands = [
        ["profile", "-o", "new.json", "--time", "1", "--threads", "1", "--space", "tiny"],
        ["show", str(saved)],
        ["predict", str(saved), json.dumps(ONE)],
        ["compare", str(saved), str(saved)],
        ["bundle", "-o", "tiny.pyz", "--space", "tiny", "--chosen", "5", "--drawn", "20"],
    ]
    code = f"""
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {lacking!r}:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Lacking())
from latency import cli
from latency.commands.printing import err, out
from latency.timing import Record
Record.is_steady = lambda *_: True
for command in {commands!r}:
    sys.argv = ["latency", *command]
    try:
        cli.main()
    except SystemExit as stopped:
        assert not stopped.code, command
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tiny.pyz").exists()
