"""Work on what a client sent, in a process of its own that may do little.

The process is forked from a server that has imported the libraries, which takes some ten
milliseconds. Readers of binary formats are large C++ programs: a crash, an endless loop or a file
that unpacks to terabytes ends this process alone, and not the service.

The limits on memory, time and file sizes hold for all code, and there are no secrets in the
environment. What the process may open, change, start or reach is checked by Python's audit hooks.
They refuse Python's own calls, but not those of a compiled library that a file has taken over: it
can do all that the service's user may. Files may be read anywhere. So run the service as a user of
its own, or in a container.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nas.service.running.forks import end_with_parent, forkserver
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
"""Audit events of what no check does: start programs, make links, use the network, unpickle."""
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
"""Audit events of changes that are allowed in one folder alone. For each path of an event: its
position in the event's details, and that of the descriptor of the folder that it is relative to."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class SandboxLimits:
    """What the process may use.

    Args:
        memory_bytes: address space, beyond what the process begins with.
        cpu_s, wall_s: after this time the process is ended.
        file_bytes: the size of each file that it writes.
        files: how many are open at once.
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

    Its environment holds no secrets. Its Python code changes no file elsewhere, reaches no network,
    starts no program, ends no process, loads no pickle and no library through ctypes. It ends when
    this process does. Its answer comes back as JSON.

    Args:
        work: a function of a module; it returns JSON values. Modules that this module lists in
            ``NEEDS`` are imported before anything is forbidden.

    Raises:
        NasError: ``work`` raised it; or the process exceeded its limits, or crashed.
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
    end_with_parent()
    for name in getattr(sys.modules[work.__module__], "NEEDS", ()):
        importlib.import_module(name)  # needed only if other code started the forkserver
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


def _confine(folder: Path, limits: SandboxLimits) -> None:
    """Give up all that the work does not need."""
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
        # The kernel kills a process that ignores SIGXCPU a second later.
        top = most + 1 if kind == resource.RLIMIT_CPU else most
        resource.setrlimit(kind, (most, top if hard == resource.RLIM_INFINITY else min(top, hard)))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.wall_s)  # even if nobody waits for the answer

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
    """An audit event's path, made absolute; relative to ``folder`` if that is a descriptor."""
    if isinstance(path, int):
        path = f"/proc/self/fd/{path}"
    elif folder is not None and folder >= 0:
        path = os.path.join(f"/proc/self/fd/{folder}", os.fsdecode(path))
    return os.path.realpath(os.fsdecode(path))


def _line(error: Exception) -> str:
    """The beginning of an error's text, on one line, in characters that JSON can hold."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.encode("utf-8", "replace").decode()[:400]
