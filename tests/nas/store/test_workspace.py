"""The workspace keeps what was built, notices what was damaged, and survives being killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.store.manifest import MANIFEST, SCRATCH, artifact_key
from nas.store.workspace import Artifact, Workspace
from supernet.errors import NasError

ROOT = Path(__file__).parents[3]
INPUTS = {"seed": 1, "data": "ab12", "sizes": [1, 2]}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
json_objects = st.dictionaries(st.text(), json_values, max_size=4)


def build(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(range(256)))
    (folder / "tokenizer").mkdir(exist_ok=True)
    (folder / "tokenizer" / "vocabulary.txt").write_text("[PAD]\n[UNK]\n")


def must_not_build(folder: Path) -> None:
    raise AssertionError(f"{folder} was built again")


def contents(artifact: Artifact) -> dict[str, bytes]:
    return {
        path.relative_to(artifact.path).as_posix(): path.read_bytes()
        for path in artifact.path.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


# ---- keys ----------------------------------------------------------------------------------------


@given(json_objects)
def test_key_depends_on_content_not_on_key_order(inputs):
    shuffled = dict(reversed(inputs.items()))
    assert artifact_key("stage", inputs) == artifact_key("stage", shuffled)
    assert artifact_key("stage", inputs) == artifact_key("stage", json.loads(json.dumps(inputs)))


@given(json_objects, json_objects)
def test_different_inputs_have_different_keys(first, second):
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (artifact_key("stage", first) == artifact_key("stage", second)) == same


def test_the_stage_is_part_of_the_key():
    assert artifact_key("profile", INPUTS) != artifact_key("search", INPUTS)


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"a": {1: "x"}}, "key 1"),
        ({"rate": float("nan")}, "inputs of stage.rate"),
        ({"rates": [1.0, float("-inf")]}, r"rates\[1\]"),
        ({"path": Path("x")}, "JSON value"),
    ],
)
def test_inputs_that_json_would_change_are_refused(inputs, named):
    with pytest.raises(NasError, match=named):
        artifact_key("stage", inputs)


@pytest.mark.parametrize("stage", ["", "..", "a/b", "../up", "/etc", "Stage", "a\n", ".hidden"])
def test_a_stage_cannot_lead_out_of_the_workspace(tmp_path, stage):
    with pytest.raises(NasError, match="stage"):
        Workspace(tmp_path).artifact(stage, {}, must_not_build)


# ---- building and reuse --------------------------------------------------------------------------


def test_an_artifact_is_built_once_and_then_reused(tmp_path):
    first = Workspace(tmp_path).artifact("supernet", INPUTS, build)
    again = Workspace(tmp_path).artifact("supernet", INPUTS, must_not_build)
    assert (first.reused, again.reused) == (False, True)
    assert (first.path, first.key, first.seconds) == (again.path, again.key, again.seconds)
    assert first.path == tmp_path / "supernet" / first.key[:16]


def test_other_inputs_are_another_artifact(tmp_path):
    workspace = Workspace(tmp_path)
    first = workspace.artifact("supernet", INPUTS, build)
    second = workspace.artifact("supernet", INPUTS | {"seed": 2}, build)
    assert first.path != second.path
    assert not second.reused


def test_the_manifest_states_inputs_checksums_and_versions(tmp_path):
    artifact = Workspace(tmp_path).artifact("supernet", INPUTS, build)
    manifest = json.loads((artifact.path / MANIFEST).read_text())
    assert manifest["inputs"] == INPUTS
    assert manifest["versions"]["python"].startswith("3.")
    assert set(manifest["files"]) == {"weights.bin", "tokenizer/vocabulary.txt"}
    # sha256sum of the bytes 0 to 255
    digest = "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880"
    assert manifest["files"]["weights.bin"] == {"bytes": 256, "sha256": digest}


def test_scratch_is_removed_when_sealing(tmp_path):
    def with_checkpoints(folder: Path) -> None:
        (folder / SCRATCH / "step-3").mkdir(parents=True)
        (folder / SCRATCH / "step-3" / "optimizer.bin").write_bytes(b"x" * 10)
        build(folder)

    artifact = Workspace(tmp_path).artifact("supernet", INPUTS, with_checkpoints)
    found = {path.name for path in artifact.path.rglob("*") if path.is_file()}
    assert found == {"weights.bin", "vocabulary.txt", MANIFEST}
    assert Workspace(tmp_path).artifact("supernet", INPUTS, must_not_build).reused


def test_a_failed_build_leaves_nothing_sealed_and_goes_on_in_the_same_folder(tmp_path):
    def fail(folder: Path) -> None:
        (folder / SCRATCH).mkdir()
        (folder / SCRATCH / "step").write_text("3")
        (folder / "model").mkdir()
        (folder / "model" / ".tmp14HxKy").write_text("half of what safetensors writes")
        raise RuntimeError("power cut")

    def resume(folder: Path) -> None:
        assert (folder / SCRATCH / "step").read_text() == "3"
        build(folder)

    workspace = Workspace(tmp_path)
    with pytest.raises(RuntimeError, match="power cut"):
        workspace.artifact("supernet", INPUTS, fail)
    assert [path.suffix for path in (tmp_path / "supernet").iterdir()] == [".partial"]
    artifact = workspace.artifact("supernet", INPUTS, resume)
    assert not artifact.reused
    assert not list(artifact.path.rglob(".*"))
    assert [path.suffix for path in (tmp_path / "supernet").iterdir()] == [""]


def test_links_are_not_stored(tmp_path):
    def link(folder: Path) -> None:
        (folder / "passwd").symlink_to("/etc/passwd")

    with pytest.raises(NasError, match="passwd is not a regular file"):
        Workspace(tmp_path).artifact("supernet", INPUTS, link)


def test_a_workspace_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NasError, match="cannot be a folder"):
            Workspace(path)


# ---- corruption ----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(data=st.data())
def test_any_damage_to_any_file_is_reported_and_mended(data):
    with tempfile.TemporaryDirectory() as root:
        warnings: list[str] = []
        workspace = Workspace(Path(root), warn=warnings.append)
        artifact = workspace.artifact("supernet", INPUTS, build)
        intact = contents(artifact)
        path = artifact.path / data.draw(st.sampled_from(sorted(intact)))
        whole = path.read_bytes()
        position = data.draw(st.integers(0, len(whole) - 1))
        damage = data.draw(st.sampled_from(["flip", "cut", "grow", "remove", "link"]))
        if damage == "flip":
            bit = 1 << data.draw(st.integers(0, 7))
            path.write_bytes(
                whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :]
            )
        elif damage == "cut":
            path.write_bytes(whole[:position])
        elif damage == "grow":
            path.write_bytes(whole + b"\0")
        else:
            path.unlink()
            if damage == "link":
                path.symlink_to("/etc/passwd")

        mended = workspace.artifact("supernet", INPUTS, build)
        assert not mended.reused
        assert len(warnings) == 1
        assert path.name in warnings[0]
        assert contents(mended) == intact


@given(position=st.integers(0, 10_000), replacement=st.integers(0, 255))
@settings(max_examples=60)
def test_an_altered_manifest_never_passes_for_another_artifact(position, replacement):
    with tempfile.TemporaryDirectory() as root:
        warnings: list[str] = []
        workspace = Workspace(Path(root), warn=warnings.append)
        artifact = workspace.artifact("supernet", INPUTS, build)
        path = artifact.path / MANIFEST
        before = json.loads(path.read_text())
        text = bytearray(path.read_bytes())
        text[position % len(text)] = replacement
        path.write_bytes(text)
        try:
            unchanged = json.loads(path.read_text()) == before
        except ValueError:
            unchanged = False
        assert workspace.artifact("supernet", INPUTS, build).reused == unchanged
        assert len(warnings) == (not unchanged)


def test_a_manifest_of_other_inputs_is_refused(tmp_path):
    warnings: list[str] = []
    workspace = Workspace(tmp_path, warn=warnings.append)
    first = workspace.artifact("supernet", INPUTS, build)
    second = workspace.artifact("supernet", INPUTS | {"seed": 2}, build)
    (second.path / MANIFEST).write_bytes((first.path / MANIFEST).read_bytes())
    assert not workspace.artifact("supernet", INPUTS | {"seed": 2}, build).reused
    assert "other inputs" in warnings[0]


@pytest.mark.parametrize("replacement", ["file", "link", "empty"])
def test_what_is_no_artifact_folder_is_replaced(tmp_path, replacement):
    workspace = Workspace(tmp_path, warn=lambda line: None)
    artifact = workspace.artifact("supernet", INPUTS, build)
    artifact.path.rename(tmp_path / "elsewhere")
    if replacement == "file":
        artifact.path.write_text("")
    elif replacement == "link":
        artifact.path.symlink_to(tmp_path / "elsewhere")
    else:
        artifact.path.mkdir()
    assert not workspace.artifact("supernet", INPUTS, build).reused
    assert not artifact.path.is_symlink()
    assert (tmp_path / "elsewhere" / "weights.bin").exists()


def test_files_added_later_do_no_harm(tmp_path):
    artifact = Workspace(tmp_path).artifact("supernet", INPUTS, build)
    (artifact.path / "notes.txt").write_text("mine")
    assert Workspace(tmp_path).artifact("supernet", INPUTS, must_not_build).reused


# ---- full disk -----------------------------------------------------------------------------------


def test_a_full_disk_is_one_clear_line_and_seals_nothing(tmp_path):
    def write_to_a_full_disk(folder: Path) -> None:
        with open("/dev/full", "wb", buffering=0) as device:
            device.write(b"weights")

    with pytest.raises(NasError, match=r"disk of .* is full .*MiB free") as raised:
        Workspace(tmp_path).artifact("supernet", INPUTS, write_to_a_full_disk)
    assert "\n" not in str(raised.value)
    assert not any(path.suffix == "" for path in (tmp_path / "supernet").iterdir())
    assert not Workspace(tmp_path).artifact("supernet", INPUTS, build).reused


def test_a_full_disk_reported_by_a_native_writer_is_recognised(tmp_path):
    def safetensors_error(folder: Path) -> None:
        raise RuntimeError('I/O error: Os { code: 28, message: "No space left on device" }')

    with pytest.raises(NasError, match="is full"):
        Workspace(tmp_path).artifact("supernet", INPUTS, safetensors_error)


def test_other_system_errors_pass_through(tmp_path):
    def denied(folder: Path) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    with pytest.raises(OSError, match="Permission denied"):
        Workspace(tmp_path).artifact("supernet", INPUTS, denied)


# ---- other processes -----------------------------------------------------------------------------


def start(root: Path, body: str) -> subprocess.Popen[str]:
    """Run ``body`` in another process, with ``workspace`` at hand, until it prints 'ready'."""
    lines = [
        "import os, signal, sys, time",
        "from pathlib import Path",
        "from nas.store.workspace import Workspace",
        "workspace = Workspace(Path(sys.argv[1]))",
        "def ready():",
        "    print('ready', flush=True)",
        "    time.sleep(60)",
        body,
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines), str(root)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_second_run_learns_who_holds_the_workspace_and_kill_frees_it(tmp_path):
    holder = start(tmp_path, "with workspace.lock():\n    ready()")
    try:
        with pytest.raises(NasError, match=f"in use by process {holder.pid}:") as raised:
            Workspace(tmp_path).artifact("supernet", INPUTS, must_not_build)
        assert "\n" not in str(raised.value)
    finally:
        kill(holder)
    assert not Workspace(tmp_path).artifact("supernet", INPUTS, build).reused


def test_the_lock_nests_and_is_freed(tmp_path):
    workspace = Workspace(tmp_path)
    with workspace.lock(), workspace.lock():
        workspace.artifact("supernet", INPUTS, build)
        with pytest.raises(NasError, match=f"process {os.getpid()}:"), Workspace(tmp_path).lock():
            pass
    with Workspace(tmp_path).lock():
        pass


KILLED_BUILD = """
def build(folder):
    (folder / "checkpoints").mkdir()
    for step in range(3):
        (folder / "checkpoints" / f"{step}.txt").write_text(str(step))
    time.sleep(0.2)
    (folder / "checkpoints" / "last.txt").write_text("3")
    ready()
workspace.artifact("supernet", {"seed": 1}, build)
"""


def test_a_killed_build_goes_on_from_its_checkpoints(tmp_path):
    kill(start(tmp_path, KILLED_BUILD))
    seen: list[str] = []

    def resume(folder: Path) -> None:
        seen.extend(sorted(path.name for path in (folder / SCRATCH).iterdir()))
        build(folder)

    artifact = Workspace(tmp_path).artifact("supernet", {"seed": 1}, resume)
    assert seen == ["0.txt", "1.txt", "2.txt", "last.txt"]
    assert artifact.seconds >= 0.15  # what the killed run did counts too
    assert not (artifact.path / SCRATCH).exists()
    assert Workspace(tmp_path).artifact("supernet", {"seed": 1}, must_not_build).reused


@pytest.mark.parametrize("call", ["shutil.rmtree", "os.rename"])
def test_a_run_killed_while_sealing_need_not_build_again(tmp_path, call):
    module = call.split(".")[0]
    body = f"""
import {module}
def die(*arguments, **options):
    ready()
{call} = die
def build(folder):
    (folder / "checkpoints").mkdir()
    (folder / "weights.bin").write_bytes(b"w")
workspace.artifact("supernet", {{"seed": 1}}, build)
"""
    kill(start(tmp_path, body))
    artifact = Workspace(tmp_path).artifact("supernet", {"seed": 1}, must_not_build)
    assert contents(artifact) == {"weights.bin": b"w"}


def test_a_kill_at_any_moment_leaves_a_usable_workspace(tmp_path):
    """Builds killed at random moments: each next run either goes on or finds the whole."""
    body = """
def build(folder):
    for part in range(20):
        (folder / f"{part}.bin").write_bytes(bytes([part]) * 50_000)
print("ready", flush=True)
workspace.artifact("supernet", {"seed": 1}, build)
"""

    def parts(folder: Path) -> None:
        for part in range(20):
            (folder / f"{part}.bin").write_bytes(bytes([part]) * 50_000)

    for delay_ms in (0, 2, 5, 10, 20):
        root = tmp_path / str(delay_ms)
        process = start(root, body)
        time.sleep(delay_ms / 1000)
        kill(process)
        warnings: list[str] = []
        artifact = Workspace(root, warn=warnings.append).artifact("supernet", {"seed": 1}, parts)
        assert warnings == []
        assert contents(artifact) == {f"{p}.bin": bytes([p]) * 50_000 for p in range(20)}
