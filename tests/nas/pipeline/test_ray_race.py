"""A race on a cluster ends as one in a single process does, whoever dies meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import load_file

from nas.cluster.options import RayOptions
from nas.pipeline.race import Racer
from nas.pipeline.rung import LEARNER, Rung
from nas.store.result_folder import MODEL
from supernet.errors import NasError
from tests.nas.pipeline.test_race import FINALISTS, Made

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

from ray.cluster_utils import Cluster  # noqa: E402

from nas.pipeline.ray_race import RayRungRunner  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As each process of the cluster has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alone")


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[Racer]:
    return Made(folder).race()


@pytest.fixture
def made(alone: list[Racer], folder: Path, tmp_path: Path) -> Made:
    """The same teacher and data, and no race yet."""
    for name in ("teacher", "data", "workspace"):
        shutil.copytree(folder / name, tmp_path / name)
    shutil.rmtree(tmp_path / "workspace" / "racer")
    return Made(tmp_path)


def runner_of(made: Made, options: RayOptions) -> RayRungRunner:
    folder = made.teacher.path / MODEL
    return RayRungRunner(folder, made.task, made.guide, made.lesson, options, made.bench.display)


def test_a_cluster_one_of_whose_processes_is_killed_ends_as_one_process_does(
    cluster: Cluster, alone: list[Racer], made: Made
) -> None:
    killed: list[int] = []
    with runner_of(made, RayOptions()) as runner:
        killer = Thread(target=_kill_one, args=(killed,))
        killer.start()
        racers = made.race(runner)
        killer.join()
    assert killed
    assert [racer.to_dict() for racer in racers] == [racer.to_dict() for racer in alone]
    for ours, theirs in zip(racers, alone, strict=True):
        mine, other = (load_file(one.rungs[-1].path / LEARNER) for one in (ours, theirs))
        assert all(torch.equal(value, other[name]) for name, value in mine.items())
    again = made.race()
    assert all(rung.reused for racer in again for rung in racer.rungs)


def _kill_one(killed: list[int]) -> None:
    """Kill the first process that runs a rung."""
    until = time.monotonic() + 120
    while not killed and time.monotonic() < until:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has ended meanwhile
                if path.read_bytes().startswith(b"ray::_run"):
                    killed.append(int(path.parent.name))
                    os.kill(killed[0], signal.SIGKILL)
                    return
        time.sleep(0.05)


def test_a_rung_that_fails_is_told(cluster: Cluster, made: Made, tmp_path: Path) -> None:
    assert made.task.validation.labels is not None
    made.task.validation.labels.clear()
    runner = runner_of(made, RayOptions(attempts=1))
    rung = Rung(FINALISTS[0])
    with runner, pytest.raises(NasError, match=r"1x32 .* failed on the cluster: IndexError"):
        runner.run(rung, tmp_path)
    assert not (tmp_path / LEARNER).exists()
