"""The server from which the service forks its processes, each in tens of milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver as server
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext

_LOADED = (
    "nas.service.jobs.stages",
    "nas.service.uploads.convert",
    "nas.service.uploads.supernets",
    "nas.service.uploads.teachers",
    "pyarrow.parquet",
)
"""What the server has imported. A process has one such server, with one list of modules."""


def forkserver() -> ForkServerContext:
    """The context in which processes are made; the first of them starts the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    return context


def start_forkserver() -> None:
    """Start the server now; it imports its modules in the background."""
    forkserver()
    resource_tracker.ensure_running()  # the server needs it, and starting it undoes the mask below
    # Once the server has imported all, it ignores Ctrl-C; the mask has it do so until then.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Have this process end when its parent does, even if the parent is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
