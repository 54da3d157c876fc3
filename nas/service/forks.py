"""The server from which all processes of the service are forked, in tens of milliseconds."""

from __future__ import annotations

import multiprocessing
import signal
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
"""What it has imported: there is one such server a process, with one list of modules."""


def forkserver() -> ForkServerContext:
    """The context to make processes in; the server starts with the first, where none runs yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    return context


def start_forkserver() -> None:
    """Start the server now; it loads its modules in the background."""
    forkserver()
    resource_tracker.ensure_running()  # which the server needs; starting it would undo the mask
    # The server takes no notice of Ctrl-C once it has loaded all; so it is to be meanwhile, too.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
