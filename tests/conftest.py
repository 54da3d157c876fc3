"""What every test shares: no network, no deadlines, and skips that say why."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A shell has what it starts in the background ignore Ctrl-C, which tests send.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before any test imports transformers, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"

# Before any test imports torch: processes that share the cores would wait for each other's threads.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine makes any deadline a coin toss; speed belongs in benchmarks/.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


LONGEST = (
    "/cluster/",
    "test_ray_",
    "test_pipeline.py",
    "test_killed_search.py",
    "test_distilling.py",
    "test_workers.py",
    "test_jobs.py",
    "test_new_user.py",
)
"""Files that take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files that take long come first, so that processes which share the tests end together.
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def place(item: pytest.Item) -> int:
        name = item.path.as_posix()
        first = (at for at, part in enumerate(LONGEST) if part in name)
        return next(first, len(LONGEST)) if item.path in slow else len(LONGEST) + 1

    items.sort(key=place)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _cuda_is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile``, one process has all files on Ray: they share a cluster."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "ray" if "/cluster/" in file or "test_ray" in file else file

    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    # What all the modules have loaded stays: no collection need go through it again.
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets that ``NAS_DATA`` names; skips the test where it is unset."""
    from nas.settings import data_folder

    folder = data_folder()
    if folder is None:
        pytest.skip("NAS_DATA is not set")
    return folder


def _cuda_is_available() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
