from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from nas.settings import cache_folder, data_folder
from supernet.configs import config_folder
from supernet.errors import NasError

ROOT = Path(__file__).parents[2]


def test_configs_of_a_checkout_are_the_ones_people_edit():
    assert config_folder() == ROOT / "configs"


def test_data_folder_is_what_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.delenv("NAS_DATA", raising=False)
    assert data_folder() is None

    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    assert data_folder() == tmp_path

    monkeypatch.setenv("NAS_DATA", str(tmp_path / "absent"))
    with pytest.raises(NasError, match="NAS_DATA must name a folder"):
        data_folder()


def test_cache_folder_is_what_the_environment_names_or_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path

    monkeypatch.setenv("NAS_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "tailorbert"


@pytest.mark.slow
def test_configs_and_templates_travel_in_the_wheel(tmp_path):
    # A copy, since building writes beside the sources.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("configs", "latency", "nas", "supernet"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path]
    run(sys.executable, *build, source)
    (wheel,) = tmp_path.glob("tailorbert-*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel)

    # What our modules import is found here, and our modules in the wheel.
    here = f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})"
    show = "from supernet.configs import config_folder; print(config_folder())"
    found = run(python, "-c", f"{here}; {show}")
    folder = Path(found.strip())
    assert folder.is_relative_to(tmp_path / "venv")
    assert listing(folder, "*.yaml") == listing(ROOT / "configs", "*.yaml")
    assert listing(folder.parent / "templates", "*") == listing(ROOT / "nas" / "templates", "*")
    assert (python.parent / "nas").exists()
    assert (python.parent / "latency").exists()


def run(*command: object) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd="/",  # not the checkout, whose packages would be found first
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def listing(folder: Path, pattern: str) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob(pattern)}
