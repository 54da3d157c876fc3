"""A workspace on shared storage: what one machine finished, all have, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.search.constraints import Limits
from nas.search.evaluator import LocalEvaluator
from nas.search.score_cache import ScoreCache
from nas.search.search import run_search
from nas.search.settings import SearchSettings
from nas.store.manifest import MANIFEST
from nas.store.shared_scores import SharedScores, open_scores
from nas.store.storage import Storage, StorageError
from nas.store.workspace import Artifact, Workspace, open_workspace
from supernet.architecture import Architecture
from supernet.errors import NasError
from supernet.space import SearchSpace

INPUTS = {"seed": 1, "data": "ab12"}
FILES = {"weights.bin": bytes(range(256)), "tokenizer/vocabulary.txt": b"[PAD]\n", "empty": b""}


class Killed(BaseException):
    """What ends a process, as far as an ``except Exception`` can see."""


class Troubled(MemoryFileSystem):
    """Storage in memory that can be away, forbidden, or there when its writer is killed."""

    protocol = "troubled"
    cachable = False
    trouble: ClassVar[Exception | None] = None
    writes_left: ClassVar[int | None] = None
    tears: ClassVar[bool] = False
    """Whether the write in which the process is killed leaves half of its content."""

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("troubled://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        self._check()
        return super().cat_file(path, start, end, **kwargs)

    def put_file(self, lpath, rpath, **kwargs):
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self._check()
        if Troubled.writes_left == 0:
            if Troubled.tears:
                super().pipe_file(path, value[: len(value) // 2], mode)
            raise Killed
        if Troubled.writes_left is not None:
            Troubled.writes_left -= 1
        super().pipe_file(path, value, mode)

    def _check(self):
        if Troubled.trouble is not None:
            raise Troubled.trouble


fsspec.register_implementation("troubled", Troubled)
fsspec.register_implementation("absent", "absent.FileSystem", errtxt="Install absent to go there")


@pytest.fixture(autouse=True)
def no_trouble() -> Iterator[None]:
    yield
    Troubled.trouble = Troubled.writes_left = None
    Troubled.tears = False


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/shared" if request.param == "file" else fresh("memory")


def fresh(protocol: str) -> str:
    return f"{protocol}://{uuid.uuid4().hex}/team"


class Machine:
    """A computer with a folder of its own and the storage of all."""

    def __init__(self, url: str) -> None:
        self.warnings: list[str] = []
        self.folder = tempfile.TemporaryDirectory()
        self.workspace = Workspace(Path(self.folder.name), self.warnings.append, Storage(url))

    def artifact(self, build: Callable[[Path], None]) -> Artifact:
        return self.workspace.artifact("supernet", INPUTS, build)

    def scores(self) -> ScoreCache:
        return open_scores(self.workspace, supernet="s", data="d")


def build(folder: Path) -> None:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def must_not_build(folder: Path) -> None:
    raise AssertionError(f"{folder} was built again")


def contents(artifact: Artifact) -> dict[str, bytes]:
    return {
        path.relative_to(artifact.path).as_posix(): path.read_bytes()
        for path in artifact.path.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


def objects(url: str) -> dict[str, bytes]:
    """All that the storage holds below ``supernet``, by path."""
    system, root = fsspec.url_to_fs(url)
    return {path: system.cat_file(path) for path in system.find(f"{root}/supernet")}


# ---- storage -------------------------------------------------------------------------------------


def test_only_the_first_creation_stands(url):
    storage = Storage(url)
    assert storage.create("a/b.txt", b"mine")
    assert storage.create("a/b.txt", b"mine")
    assert not storage.create("a/b.txt", b"theirs")
    assert storage.read("a/b.txt") == b"mine"


def test_storage_that_cannot_create_writes(tmp_path, monkeypatch):
    storage = Storage(fresh("troubled"))
    write = Troubled.pipe_file

    def without_conditions(self, path, value, mode="overwrite", **kwargs):
        if mode == "create":
            raise OSError("501: a header you provided is not implemented")
        write(self, path, value)

    monkeypatch.setattr(Troubled, "pipe_file", without_conditions)
    assert storage.create("a", b"mine")
    assert not storage.create("a", b"theirs")
    assert storage.read("a") == b"mine"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere://bucket/team", "Protocol not known: nowhere; accepted: a folder, or a URL"),
        ("absent://bucket/team", "needs a package: Install absent to go there"),
        ("memory://", "names no bucket or folder"),
        ("memory://team/*", r"none of \* \? \["),
        ("file:///no/such/place", "no such bucket or folder .*: create it, or correct the URL"),
    ],
)
def test_a_url_that_does_not_serve_is_one_line(url, message):
    with pytest.raises(NasError, match=message) as raised:
        Storage(url)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (PermissionError("403\nAccess Denied"), "no permission .403 Access Denied.: .*credentials"),
        (ConnectionError("no route to host"), "ConnectionError: no route to host"),
        (KeyError(), "KeyError"),
        (NotImplementedError(), "cannot be written to"),
    ],
)
def test_storage_that_refuses_is_one_line(trouble, message):
    Troubled.trouble = trouble
    with pytest.raises(StorageError, match=message) as raised:
        Storage(fresh("troubled"))
    assert "\n" not in str(raised.value)


def test_a_password_is_not_shown():
    storage = Storage(f"troubled://someone:secret@{uuid.uuid4().hex}/team")
    assert "secret" not in storage.url
    assert "//someone@" in storage.url


def test_a_url_has_a_local_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    url = fresh("memory")
    folder = open_workspace(url).root
    assert folder.is_relative_to(tmp_path)
    assert open_workspace(f"{url}/").root == folder
    assert open_workspace(fresh("memory")).root != folder
    assert open_workspace(str(tmp_path / "local")).storage is None


# ---- artifacts -----------------------------------------------------------------------------------


def test_another_machine_need_not_build(url):
    builder, machine = Machine(url), Machine(url)
    first, again = builder.artifact(build), machine.artifact(must_not_build)
    assert (first.reused, again.reused) == (False, True)
    assert contents(first) == contents(again) == FILES
    assert (first.key, first.seconds) == (again.key, again.seconds)
    assert machine.artifact(must_not_build).path == again.path
    assert machine.warnings == []


def test_what_was_built_before_the_storage_came_is_given_to_it(url, tmp_path):
    Workspace(tmp_path / "local").artifact("supernet", INPUTS, build)
    Workspace(tmp_path / "local", storage=Storage(url)).artifact("supernet", INPUTS, must_not_build)
    assert Machine(url).artifact(must_not_build).reused


def test_what_is_brought_ends_a_build_begun_here(url):
    machine = Machine(url)

    def fail(folder: Path) -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        machine.artifact(fail)
    Machine(url).artifact(build)
    brought = machine.artifact(must_not_build)
    assert [path.name for path in brought.path.parent.iterdir()] == [brought.path.name]


@pytest.mark.parametrize("tears", [False, True])
@pytest.mark.parametrize("writes", range(len(FILES) + 1))
def test_a_killed_upload_is_no_artifact(writes, tears):
    url = fresh("troubled")
    machine, other = Machine(url), Machine(url)
    Troubled.writes_left, Troubled.tears = writes, tears
    with pytest.raises(Killed):
        machine.artifact(build)
    Troubled.writes_left = None

    built = []
    other.artifact(lambda folder: built.append(folder) or build(folder))
    assert len(built) == 1
    assert len(other.warnings) == (tears and writes == len(FILES))  # half of a manifest
    assert contents(machine.artifact(must_not_build)) == FILES
    last = Machine(url)
    assert contents(last.artifact(must_not_build)) == FILES
    assert last.warnings == []


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove"])
@pytest.mark.parametrize("index", range(len(FILES) + 1))
def test_damage_is_told_once_and_mended(url, index, damage):
    Machine(url).artifact(build)
    path, content = sorted(objects(url).items())[index]
    system = fsspec.url_to_fs(url)[0]
    if damage == "remove":
        system.rm_file(path)
    else:
        changed = {
            "flip": bytes(byte ^ 1 for byte in content),
            "cut": content[: len(content) // 2],
            "grow": content + b"?",
        }[damage]
        if changed == content:  # an empty file, which is hard to damage
            return
        system.pipe_file(path, changed)

    machine = Machine(url)
    mended = machine.artifact(build)
    assert not mended.reused
    assert contents(mended) == FILES
    without_manifest = damage == "remove" and path.endswith(MANIFEST)
    assert len(machine.warnings) == (not without_manifest)
    assert all("damaged" in line and "\n" not in line for line in machine.warnings)
    last = Machine(url)
    assert contents(last.artifact(must_not_build)) == FILES
    assert last.warnings == []


@pytest.mark.parametrize(
    "name",
    [
        "../escaped", "/tmp/tailorbert-escaped", "a/../../escaped", "./a", "a//b", "", ".", "..",
        "a\\b", "a\0b", "a\nb", MANIFEST, "checkpoints/a", "weights.bin/a",
    ],
)  # fmt: skip
def test_a_manifest_cannot_lead_out_of_its_artifact(url, name):
    Machine(url).artifact(build)
    system = fsspec.url_to_fs(url)[0]
    (path,) = (path for path in objects(url) if path.endswith(MANIFEST))
    manifest = json.loads(system.cat_file(path))
    manifest["files"][name] = {"bytes": 2, "sha256": hashlib.sha256(b"hi").hexdigest()}
    place = f"{path.removesuffix(MANIFEST)}{signed(manifest)['sha256'][:16]}"
    for good, content in FILES.items():
        system.makedirs(f"{place}/{good}".rpartition("/")[0], exist_ok=True)
        system.pipe_file(f"{place}/{good}", content)
    with suppress(OSError, ValueError):  # what cannot be written there cannot be read either
        system.pipe_file(f"{place}/{name}", b"hi")
    system.pipe_file(path, json.dumps(signed(manifest)).encode())

    machine = Machine(url)
    assert contents(machine.artifact(build)) == FILES
    assert "no file within an artifact" in machine.warnings[0]
    assert len(machine.warnings) == 1
    assert not list(Path(machine.folder.name).rglob("escaped"))
    assert not Path("/tmp/tailorbert-escaped").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"files": ["weights.bin"]},
        {"files": {"weights.bin": 7}},
        {"files": {"weights.bin": {"bytes": 256}}},
        {"seconds": "long"},
        {"key": "0" * 64},
        {"key": None},
    ],
)
def test_a_manifest_of_another_make_is_refused(change):
    url = fresh("memory")
    Machine(url).artifact(build)
    system = fsspec.url_to_fs(url)[0]
    (path,) = (path for path in objects(url) if path.endswith(MANIFEST))
    system.pipe_file(path, json.dumps(signed(json.loads(system.cat_file(path)) | change)).encode())
    machine = Machine(url)
    assert contents(machine.artifact(build)) == FILES
    assert len(machine.warnings) == 1


def signed(manifest: dict[str, object]) -> dict[str, object]:
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return content | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_machines_that_build_at_once_go_on_with_the_same(url):
    """Training twice gives other weights: the first to end is the one that counts."""
    slow, quick = Machine(url), Machine(url)

    def build_other(folder: Path) -> None:
        build(folder)
        (folder / "weights.bin").write_bytes(b"others")

    def overtaken(folder: Path) -> None:
        build(folder)
        quick.artifact(build_other)

    first = slow.artifact(overtaken)
    assert (
        contents(first)
        == contents(quick.artifact(must_not_build))
        == FILES | {"weights.bin": b"others"}
    )
    assert contents(Machine(url).artifact(must_not_build)) == contents(first)
    assert slow.warnings == quick.warnings == []


def test_two_uploads_that_interleave_leave_one_whole(tmp_path):
    """Where storage has no conditional writes, the last manifest stands, and its files with it."""
    url = fresh("memory")
    system, root = fsspec.url_to_fs(url)
    given = []
    for weights in (b"one", b"two"):
        alone = fresh("memory")
        Machine(alone).artifact(lambda folder, w=weights: (folder / "w").write_bytes(w))
        prefix = fsspec.url_to_fs(alone)[1]
        given.append([(path.removeprefix(prefix), c) for path, c in objects(alone).items()])
    manifests_last = [sorted(one, key=lambda pair: pair[0].endswith(MANIFEST)) for one in given]
    for pair in zip(*manifests_last, strict=True):
        for path, content in pair:
            system.pipe_file(root + path, content)
    machine = Machine(url)
    assert contents(machine.artifact(must_not_build)) == {"w": b"two"}
    assert machine.warnings == []


def test_an_upload_that_fails_is_made_up_for_by_the_next_run():
    url = fresh("troubled")
    machine = Machine(url)

    def lose_the_storage(folder: Path) -> None:
        build(folder)
        Troubled.trouble = ConnectionError("no route to host")

    assert contents(machine.artifact(lose_the_storage)) == FILES
    assert len(machine.warnings) == 1
    assert "this machine alone" in machine.warnings[0]
    with pytest.raises(NasError, match="no route to host"):
        Machine(url)
    Troubled.trouble = None
    machine.artifact(must_not_build)
    assert Machine(url).artifact(must_not_build).reused


def test_storage_that_does_not_answer_is_no_reason_to_build_again():
    machine = Machine(fresh("troubled"))
    Troubled.trouble = ConnectionError("no route to host")
    with pytest.raises(NasError, match="no route to host"):
        machine.artifact(must_not_build)


# ---- scores --------------------------------------------------------------------------------------


def architecture(hidden_size: int) -> Architecture:
    return Architecture.uniform(
        num_layers=2, hidden_size=hidden_size, num_heads=1, intermediate_size=8
    )


def known(cache: ScoreCache) -> dict[int, float]:
    found = {size: architecture(size) for size in range(1, 8)}
    return {size: cache[one] for size, one in found.items() if one in cache}


happenings = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), st.integers(1, 7), st.integers(0, 99)),
        st.tuples(st.sampled_from(["open", "away", "back", "wipe"]), st.integers(0, 2)),
    ),
    max_size=24,
)


@settings(max_examples=30)
@given(happenings)
def test_whoever_writes_what_when_all_machines_read_the_same(events):
    url = fresh("troubled")
    machines = [Machine(url) for _ in range(3)]
    caches = [machine.scores() for machine in machines]
    scored = set()
    for event, index, *what in events:
        if event == "add":
            size, score = what
            caches[index].add([architecture(size)], [score / 100])
            scored.add(size)
        elif event == "away":
            Troubled.trouble = ConnectionError("no route to host")
        elif event == "back":
            Troubled.trouble = None
        elif Troubled.trouble is None:
            caches[index] = machines[index].scores()  # so that nothing is on it alone
            if event == "wipe":
                shutil.rmtree(machines[index].workspace.root / "scores", ignore_errors=True)
                caches[index] = machines[index].scores()
    Troubled.trouble = None

    for machine in machines:
        machine.scores()
    expected = known(Machine(url).scores())
    assert expected.keys() == scored
    assert all(known(machine.scores()) == expected for machine in machines)
    files = [next((m.workspace.root / "scores").iterdir()).read_bytes() for m in machines]
    assert files[0] == files[1] == files[2]


@settings(max_examples=40)
@given(st.data())
def test_the_order_in_which_objects_are_written_does_not_matter(data):
    names = [f"{moment:020d}-{moment:016x}.jsonl" for moment in (3, 5, 5 * 10**18, 7)]
    chunks = {
        name: b"".join(
            json.dumps({"line": line}).encode() + b"\n"
            for line in data.draw(st.lists(st.integers(0, 4), max_size=3))
        )
        for name in names
    }
    merged = []
    for _ in range(2):
        storage = Storage(fresh("memory"))
        for name in data.draw(st.permutations(names)):
            storage.write(f"scores/x/{name}", chunks[name])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scores.jsonl"
            SharedScores(storage, "scores/x", pytest.fail).merge(path)
            merged.append(path.read_bytes())
    assert merged[0] == merged[1]
    assert set(merged[0].splitlines()) == set(b"".join(chunks.values()).splitlines())


def test_a_clock_that_is_behind_does_not_put_records_above_those_they_follow(url, monkeypatch):
    Machine(url).scores().add([architecture(1)], [0.1])
    monkeypatch.setattr("nas.store.shared_scores.time.time_ns", lambda: 0)
    late = Machine(url).scores()
    late.add([architecture(2)], [0.2])
    late.add([architecture(3)], [0.3])
    assert list(Machine(url).scores().begin("any").values()) == [0.1, 0.2, 0.3]


def test_two_searches_on_one_storage_keep_their_supernets_apart(url):
    machine = Machine(url)
    machine.scores().add([architecture(1)], [0.1])
    open_scores(machine.workspace, supernet="other", data="d").add([architecture(1)], [0.2])
    other = Machine(url)
    assert known(other.scores()) == {1: 0.1}
    assert known(open_scores(other.workspace, supernet="other", data="d")) == {1: 0.2}
    assert known(open_scores(other.workspace, supernet="s", data="other")) == {}


def test_storage_that_is_away_costs_one_warning_and_no_score():
    url = fresh("troubled")
    machine = Machine(url)
    cache = machine.scores()
    Troubled.trouble = ConnectionError("no route to host")
    cache.add([architecture(1)], [0.1])
    cache.add([architecture(2)], [0.2])
    assert len(machine.warnings) == 1
    Troubled.trouble = None
    cache.add([architecture(3)], [0.3])
    assert known(Machine(url).scores()) == {1: 0.1, 2: 0.2, 3: 0.3}


def test_torn_and_foreign_objects_do_no_harm(url):
    machine = Machine(url)
    machine.scores().add([architecture(1), architecture(2)], [0.1, 0.2])
    storage = Storage(url)
    (context,) = storage.names("scores")
    (name,) = storage.names(f"scores/{context}")
    content = storage.read(f"scores/{context}/{name}")
    assert content is not None
    storage.write(f"scores/{context}/{name}", content[:-3])
    storage.write(f"scores/{context}/notes.txt", b"mine")
    storage.write(f"scores/{context}/{'9' * 19}0-{'f' * 16}.jsonl", b"[]\n")
    reader = Machine(url)
    assert known(reader.scores()) == {1: 0.1}
    assert ["is not a record" in line for line in reader.warnings] == [True]
    machine.scores()  # still has what was torn
    assert known(Machine(url).scores()) == {1: 0.1, 2: 0.2}


def test_a_search_whose_machine_is_lost_goes_on_from_another(url):
    space = SearchSpace(
        name="tiny",
        num_layers=(1, 2),
        hidden_size=(16, 32),
        num_heads=(1, 2, 4),
        qkv_size=(8, 16, 32),
        intermediate_size=(16, 32, 64),
        head_size=(4, 8),
    )
    chances = SearchSettings(evaluations=12, batch=4, refinement=4, algorithm="random", seed=5)

    def search(machine: Machine, stop_after: int = 10**9):
        asked: list[Architecture] = []

        def evaluate(one: Architecture) -> float:
            if len(asked) >= stop_after:
                raise Killed
            asked.append(one)
            return one.hidden_size / 100 + one.num_layers / 7

        try:
            result = run_search(
                space,
                lambda batch: np.asarray(0.1 + 0.05 * batch.num_layers),
                LocalEvaluator(evaluate),
                Limits(1.0),
                chances,
                cache=machine.scores(),
            )
        except Killed:
            result = None
        return result, asked

    undisturbed, all_asked = search(Machine(fresh("memory")))
    nothing, first = search(Machine(url), stop_after=8)
    resumed, then = search(Machine(url))
    assert nothing is None
    assert len(first) == 8
    assert first + then == all_asked
    assert resumed == replace(undisturbed, newly_scored=len(then))
