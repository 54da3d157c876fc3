"""Work on what a client sent, in a process that may do little and cannot take the service along.

The process is forked from a server that has the libraries imported, so that it costs some ten
milliseconds. Readers of binary formats are large C++ programs: a crash, an endless loop or a
file that unfolds to terabytes ends this process alone.

Limits on memory, time, files' sizes and the lack of secrets in the environment hold whatever runs
here. What it may open, change, start or reach is watched in the interpreter: Python's own calls
are refused, but a compiled library that a file took over could do what the service's user may.
Files may be read anywhere. So the service runs as a user of its own, or in a container.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nas.service.forks import forkserver
from nas.settings import forget_secrets
from supernet.errors import NasError

_ANSWER_BYTES = 1_000_000
_FORBIDDEN = (
    "ctypes.dlopen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.killpg",
    "os.link",
    "os.posix_spawn",
    "os.symlink",
    "os.system",
    "pickle.find_class",
    "pty.spawn",
    "signal.pthread_kill",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "subprocess.Popen",
)
"""Audit events of what a check never does: other programs, links, the network, pickles."""
_CHANGING = {
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
}
"""Audit events of what is done in one folder alone: where in their details each path stands, and
the descriptor of the folder that it is relative to."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class SandboxLimits:
    """What the process may use.

    Args:
        memory_bytes: of address space, beyond what it begins with.
        cpu_s, wall_s: after which it is ended.
        file_bytes: of each file that it writes.
        files: open at once.
    """

    memory_bytes: int = 6_000_000_000
    cpu_s: int = 120
    wall_s: int = 240
    file_bytes: int = 4_000_000_000
    files: int = 256


def run_confined(
    work: Callable[..., dict[str, Any]],
    *arguments: Any,
    folder: Path,
    limits: SandboxLimits = SandboxLimits(),
) -> dict[str, Any]:
    """What ``work`` returns, in a process that has ``folder`` as its working directory.

    The environment it sees holds no secrets. Its Python code changes no file elsewhere, reaches no
    network, starts no program, ends no process, loads no pickle and no library through ctypes; it
    ends when this process does. Its answer comes back as JSON.

    Args:
        work: a function of a module; returns JSON values. Modules that the module names as
            ``NEEDS`` are loaded before anything is forbidden.

    Raises:
        NasError: as ``work`` raised it; or it used more than its limits, or crashed.
    """
    context = forkserver()
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(
        target=_child, args=(sending, work, arguments, folder, limits), daemon=True
    )
    process.start()
    sending.close()
    try:
        answered = receiving.poll(limits.wall_s)
        answer = json.loads(receiving.recv_bytes(_ANSWER_BYTES)) if answered else None
    except (EOFError, OSError) as error:
        process.join()
        if process.exitcode == -signal.SIGXCPU:
            raise _too_slow(limits.cpu_s) from error
        raise NasError("it cannot be read: the reader gave up on it") from error
    finally:
        process.kill()
        process.join()
        process.close()
        receiving.close()
    if answer is None:
        raise _too_slow(limits.wall_s)
    if "error" in answer:
        raise NasError(answer["error"])
    result: dict[str, Any] = answer["result"]
    return result


def _too_slow(seconds: int) -> NasError:
    return NasError(f"it takes longer to read than {seconds} s")


def _child(
    connection: Connection,
    work: Callable[..., dict[str, Any]],
    arguments: tuple[Any, ...],
    folder: Path,
    limits: SandboxLimits,
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in getattr(sys.modules[work.__module__], "NEEDS", ()):
        importlib.import_module(name)  # there already, but where others started the forkserver
    _confine(folder, limits)
    try:
        answer: dict[str, Any] = {"result": work(*arguments)}
    except NasError as error:
        answer = {"error": _line(error)}
    except MemoryError:
        answer = {"error": f"it takes more memory to read than {limits.memory_bytes:,} bytes"}
    except RecursionError:
        answer = {"error": "it is nested too deeply"}
    except Exception as error:  # noqa: BLE001 - of any kind: from libraries, over a file they refuse
        answer = {"error": f"it cannot be read: {_line(error)}"}
    connection.send_bytes(json.dumps(answer).encode())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _confine(folder: Path, limits: SandboxLimits) -> None:
    """Give up what the work needs not."""
    forget_secrets()
    os.chdir(folder)
    home = f"{os.path.realpath(folder)}/"
    tempfile.tempdir = home
    sys.dont_write_bytecode = True
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + limits.memory_bytes
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # A second later the kernel kills what does not heed SIGXCPU.
        top = most + 1 if kind == resource.RLIMIT_CPU else most
        resource.setrlimit(kind, (most, top if hard == resource.RLIM_INFINITY else min(top, hard)))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.wall_s)  # even where nobody waits for it any more

    def guard(event: str, details: tuple[Any, ...]) -> None:
        if event in _FORBIDDEN:
            raise PermissionError(f"{event} is not allowed here")
        if event == "open" and details[2] & _WRITING:
            changed = [_absolute(details[0])]
        elif event == "open":
            if _absolute(details[0]).endswith("/environ"):
                raise PermissionError("environments of processes are not allowed here")
            return
        else:
            places = _CHANGING.get(event, ())
            changed = [
                _absolute(details[path], None if folder is None else details[folder])
                for path, folder in places
            ]
        if not all(path.startswith(home) or path == os.devnull for path in changed):
            raise PermissionError("files are written in one folder alone here")

    sys.addaudithook(guard)


def _absolute(path: Any, folder: int | None = None) -> str:
    """Where a path of an audit event leads: one of ``folder``, if that is a descriptor."""
    if isinstance(path, int):
        path = f"/proc/self/fd/{path}"
    elif folder is not None and folder >= 0:
        path = os.path.join(f"/proc/self/fd/{folder}", os.fsdecode(path))
    return os.path.realpath(os.fsdecode(path))


def _line(error: Exception) -> str:
    """An error's first words, on one line, as JSON can say them."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.encode("utf-8", "replace").decode()[:400]
