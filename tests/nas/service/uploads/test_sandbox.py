"""The confined process: what it may not do, and that nothing of it stays."""

from __future__ import annotations

import ctypes
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from nas.service.uploads.sandbox import SandboxLimits, run_confined
from supernet.errors import NasError


def test_answers_come_back(tmp_path):
    assert run_confined(dict, [("rows", 3)], folder=tmp_path) == {"rows": 3}


def test_it_works_in_its_folder(tmp_path):
    run_confined(Path.write_text, Path("kept"), "content", folder=tmp_path)
    assert (tmp_path / "kept").read_text() == "content"


@pytest.mark.parametrize(
    ("work", "arguments"),
    [
        (Path.write_text, (Path("../outside"), "content")),
        (os.open, ("../outside", os.O_CREAT | os.O_RDWR)),
        (socket.create_connection, (("127.0.0.1", 9),)),
        (socket.getaddrinfo, ("localhost", 80)),
        (subprocess.run, (["true"],)),
        (os.system, ("true",)),
        (os.fork, ()),
        (os.kill, (os.getpid(), signal.SIGTERM)),
        (os.rename, ("../other/file", "file")),
        (os.rename, ("own", "../outside")),
        (os.remove, ("../other/file",)),
        (os.truncate, ("../other/file", 0)),
        (os.chmod, ("../other/file", 0o777)),
        (os.mkdir, ("../outside",)),
        (os.symlink, ("../other", "link")),
        (os.link, ("../other/file", "link")),
        (shutil.rmtree, ("../other",)),
        (ctypes.CDLL, (None,)),
        (Path.read_bytes, (Path("/proc/self/environ"),)),
        (pickle.loads, (b"cos\ngetcwd\n(tR.",)),
    ],
)
def test_it_reaches_nothing_else(tmp_path, work, arguments):
    folder, other = tmp_path / "own", tmp_path / "other" / "file"
    for path in (folder / "own", other):
        path.parent.mkdir()
        path.write_text("content")
    with pytest.raises(NasError, match=r"allowed here|one folder alone"):
        run_confined(work, *arguments, folder=folder)
    assert sorted(tmp_path.rglob("*")) == [other.parent, other, folder, folder / "own"]
    assert other.read_text() == "content"


def change_own_files() -> dict[str, list[str]]:
    Path("inner").mkdir()
    Path("inner/first").write_text("content")
    os.rename("inner/first", "kept")
    os.truncate("kept", 4)
    with Path("kept").open("r+") as file:
        file.truncate(2)
    shutil.rmtree("inner")
    with tempfile.TemporaryDirectory() as name:
        Path(name, "gone").touch()
    return {"left": os.listdir(), "content": [Path("kept").read_text()]}


def test_its_own_files_are_its_own(tmp_path):
    found = run_confined(change_own_files, folder=tmp_path)
    assert found == {"left": ["kept"], "content": ["co"]}


def secrets_seen() -> dict[str, list[str]]:
    return {"names": [name for name in os.environ if name.startswith("NAS_")]}


def test_limits_end_it(tmp_path):
    small = SandboxLimits(memory_bytes=200_000_000, cpu_s=1, wall_s=30, file_bytes=1000)
    with pytest.raises(NasError, match="more memory to read than 200,000,000 bytes"):
        run_confined(bytearray, 300_000_000, folder=tmp_path, limits=small)
    with pytest.raises(NasError, match="File too large"):
        run_confined(Path.write_bytes, Path("large"), bytes(2000), folder=tmp_path, limits=small)
    with pytest.raises(NasError, match="longer to read than 1 s"):
        run_confined(sum, range(10**12), folder=tmp_path, limits=small)
    with pytest.raises(NasError, match="longer to read than 1 s"):
        run_confined(time.sleep, 60, folder=tmp_path, limits=SandboxLimits(wall_s=1))


def test_a_crash_is_its_own(tmp_path):
    with pytest.raises(NasError, match="the reader gave up"):
        run_confined(os.abort, folder=tmp_path)
    assert run_confined(dict, folder=tmp_path) == {}


def working_in(folder: Path) -> list[int]:
    """Processes whose working directory is ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder):
                found.append(int(process.name))
        except OSError:  # it ended, or is another user's
            continue
    return found


def test_it_sees_no_secrets_and_ends_with_the_service(tmp_path):
    code = (
        "import sys, time; from pathlib import Path;"
        "from nas.service.uploads.sandbox import run_confined;"
        "from tests.nas.service.uploads.test_sandbox import secrets_seen;"
        "print(run_confined(secrets_seen, folder=Path(sys.argv[1])), flush=True);"
        "run_confined(time.sleep, 200, folder=Path(sys.argv[1]))"
    )
    names = ("NAS_DATABASE_URL", "NAS_DATABASE_URL_FILE", "NAS_TOKEN", "NAS_TOKEN_FILE")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("NAS_")}
    environment = plain | dict.fromkeys(names, "secret") | {"NAS_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    service = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        assert service.stdout.readline() == "{'names': ['NAS_CACHE']}\n"
        while not working_in(tmp_path):
            assert service.poll() is None
            time.sleep(0.02)
    finally:
        service.send_signal(signal.SIGKILL)
        service.wait()
        service.stdout.close()
    deadline = time.monotonic() + 100
    while working_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert working_in(tmp_path) == []
