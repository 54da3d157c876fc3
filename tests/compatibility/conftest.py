"""Unpacks what earlier code wrote."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "samples"
Command = Callable[..., str]


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what an earlier ``nas search`` kept; tests only read it."""
    return unpacked(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of that folder, for a test that writes to it."""
    return unpacked(tmp_path)


def unpacked(folder: Path) -> Path:
    with tarfile.open(SAMPLES / "search.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs today's ``nas`` in this process; gives what it printed.

    ``ends`` is the exit status that is expected.
    """
    from nas.cli import main

    def run(*words: str, ends: int = 0) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["nas", *words])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        printed = "".join(capsys.readouterr())
        assert (ended.value.code or 0) == ends, printed
        return printed

    return run
