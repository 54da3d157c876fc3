"""A bundle measures where there is nothing but NumPy and ONNX Runtime."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from latency.bundle import ENTRY, RUNNER, sources, write_bundle
from latency.profile import Profile
from latency.target import Target, Workload
from supernet.configs import load_space

LACKING = (
    "matplotlib", "onnx", "pydantic", "rich", "scipy", "torch", "transformers", "typer", "yaml"
)  # fmt: skip
TARGET = Target(threads=1, batch_size=1, sequence_length=16)
GRID = (Workload(1, 16), Workload(2, 8))

Done = subprocess.CompletedProcess[str]
Device = Callable[..., Done]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("host") / "bundle.pyz"
    told: list[tuple[int, int]] = []
    size = write_bundle(
        path, TARGET, [load_space("tiny")], GRID, threads=1, chosen=20, drawn=20, seed=1,
        progress=lambda done, all_: told.append((done, all_)),
    )  # fmt: skip
    assert path.stat().st_size == size < 250_000
    assert told[-1][0] == told[-1][1]
    return path


@pytest.fixture
def device(bundle: Path, tmp_path: Path) -> Device:
    """Runs the bundle where the packages of :data:`LACKING` are not there, nor is this checkout."""

    def run(
        *arguments: str, lacking: tuple[str, ...] = LACKING
    ) -> subprocess.CompletedProcess[str]:
        code = (
            f"import runpy, sys; sys.modules.update(dict.fromkeys({lacking!r}));"
            f"sys.argv = {['bundle.pyz', *arguments]!r};"
            f"runpy.run_path({str(bundle)!r}, run_name='__main__')"
        )
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return run


@pytest.mark.slow
def test_a_bundle_measures_a_profile(device: Device, tmp_path: Path) -> None:
    done = device("--time", "1s", "-o", "pi.json")
    assert done.returncode == 0, done.stderr
    assert "latency show pi.json" in done.stdout
    profile = Profile.load(tmp_path / "pi.json")
    assert profile.complete
    assert profile.target == TARGET
    assert profile.workloads == GRID
    assert profile.spaces == (load_space("tiny").to_dict(),)
    assert "onnxruntime" in profile.fingerprint.versions
    roles = [one.role for one in profile.measurements]
    assert roles.count("drawn") >= 12  # all the tiny space has of what was drawn
    assert all(latency.p50_ms > 0 for latency in profile.latencies)


@pytest.mark.slow
def test_the_device_has_the_last_word_on_threads(device: Device, tmp_path: Path) -> None:
    assert device("--time", "1", "--threads", "2").returncode == 0
    assert Profile.load(tmp_path / "profile.json").target.threads == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--time", "soon"], "bundle: time 'soon' is not understood"),
        (["--threads", "0"], "bundle: threads must be at least 1"),
    ],
)
def test_faults_are_one_line(device: Device, arguments: list[str], says: str) -> None:
    done = device(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1


def test_a_profile_that_is_there_is_left_alone(device: Device, tmp_path: Path) -> None:
    (tmp_path / "pi.json").write_text("mine")
    done = device("-o", "pi.json")
    assert done.returncode == 2
    assert done.stderr.startswith("bundle: pi.json is there already; give another path")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "pi.json").read_text() == "mine"


def test_a_device_without_its_runtime_is_told(device: Device) -> None:
    done = device(lacking=("onnxruntime",))
    assert done.returncode == 1
    assert done.stderr == ("bundle: needs the package onnxruntime: pip install numpy onnxruntime\n")


def test_equal_bundles_are_equal_bytes(bundle: Path, tmp_path: Path) -> None:
    write_bundle(
        tmp_path / "again.pyz", TARGET, [load_space("tiny")], GRID,
        threads=1, chosen=20, drawn=20, seed=1,
    )  # fmt: skip
    assert (tmp_path / "again.pyz").read_bytes() == bundle.read_bytes()


def test_weights_stay_at_home(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        graphs = [one for one in archive.infolist() if one.filename.endswith(".onnx")]
    assert max(one.compress_size for one in graphs) < 4_000


def test_what_travels_needs_only_numpy_and_onnxruntime() -> None:
    allowed = sys.stdlib_module_names | {"latency", "supernet", "numpy", "onnxruntime"}
    for name, path in {**sources(ENTRY), **sources(RUNNER)}.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found = {str(node.module).partition(".")[0]}
            else:
                continue
            assert found <= allowed, name
