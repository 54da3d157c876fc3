"""The way to a Ray cluster."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import RayTaskError

from supernet.errors import NasError


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Within, this process is connected to the cluster at an address, as ``--ray`` takes it.

    Raises:
        NasError: no cluster answers there.
    """
    joined = join(address)
    try:
        yield
    finally:
        if joined:
            ray.shutdown()


@contextmanager
def ctrl_c_kept() -> Iterator[None]:
    """Puts back what Ctrl-C does: Ray Tune and Ray Train take it for good, and end nothing by it.

    They leave it alone in any thread but the main one.
    """
    kept = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, kept)


def join(address: str) -> bool:
    """Connect to a cluster, unless this process is connected already; whether this did it.

    Raises:
        NasError: no cluster answers at the address.
    """
    if ray.is_initialized():
        return False
    dashboard = False if address == "local" else None
    try:
        _check_answers(address)
        ray.init(
            address,
            include_dashboard=dashboard,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise NasError(
            f"no Ray cluster answers at {address!r} ({in_one_line(error)}); accepted: auto, "
            "local, host:port, ray://host:port"
        ) from error
    return True


def _check_answers(address: str) -> None:
    """Refuse an address at once that Ray would try for minutes.

    Raises:
        OSError: nobody listens there.
        ValueError: it is none.
    """
    if address not in ("auto", "local"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()


def in_one_line(error: BaseException) -> str:
    """An error by its name; of what Ray wraps, the error that was raised there."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    lines = str(error).strip().splitlines() or [""]
    # Of a process that could not be built Ray tells the traceback, of one that died an essay.
    told = lines[-1] if "creation task" in lines[0] else lines[0].partition(". ")[0]
    return f"{type(error).__name__}: {told.strip()}".removesuffix(": ")
