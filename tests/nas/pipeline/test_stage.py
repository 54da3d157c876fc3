"""Stages: what decides the key of their artifacts, and what is told of them."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from nas.pipeline.stage import Stage, Workbench
from nas.store.manifest import artifact_key
from nas.store.workspace import Workspace
from nas.terminal.progress import Display


def count(folder: Path, _display: Display) -> None:
    (folder / "count").write_text("7")


COUNTED = Stage(
    name="count",
    edition=1,
    inputs={"to": 7},
    build=count,
    lines=lambda folder: ["counting", f"counted   {(folder / 'count').read_text()}"],
)


@pytest.fixture
def said() -> StringIO:
    return StringIO()


@pytest.fixture
def bench(tmp_path: Path, said: StringIO) -> Workbench:
    return Workbench(Workspace(tmp_path), Display(Console(file=said)))


def test_an_artifact_is_made_once_and_told_of_each_time(bench: Workbench, said: StringIO) -> None:
    assert not bench.has(COUNTED)
    first, again = bench.make(COUNTED), bench.make(COUNTED)
    assert bench.has(COUNTED)
    assert (first.reused, again.reused) == (False, True)
    assert first.key == again.key
    told = "counting\ncounted   7"
    assert said.getvalue() == f"{told} (0 s)\n{told} (from the workspace)\n"


@pytest.mark.parametrize(
    "other",
    [
        replace(COUNTED, name="sum"),
        replace(COUNTED, edition=2),
        replace(COUNTED, inputs={"to": 8}),
        replace(COUNTED, inputs={"to": 7, "by": 1}),
    ],
)
def test_name_edition_and_inputs_tell_artifacts_apart(bench: Workbench, other: Stage) -> None:
    assert bench.make(other).key != bench.make(COUNTED).key
    assert not bench.make(replace(other, edition=3)).reused


def test_the_first_edition_has_the_key_that_stages_had_without_one(bench: Workbench) -> None:
    assert bench.make(COUNTED).key == artifact_key("count", {"to": 7})
    second = replace(COUNTED, edition=2)
    assert bench.make(second).key == artifact_key("count", {"to": 7, "edition": 2})


def test_a_stage_without_lines_is_made_in_silence(bench: Workbench, said: StringIO) -> None:
    bench.make(Stage(name="quiet", edition=1, inputs={}, build=count))
    assert said.getvalue() == ""
