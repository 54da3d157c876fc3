"""Scores outlive kills, torn lines and damage, and remember what each search began with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.search.score_cache import ScoreCache
from supernet.architecture import Architecture
from supernet.errors import NasError

ROOT = Path(__file__).parents[3]


def architecture(hidden_size: int) -> Architecture:
    return Architecture.uniform(
        num_layers=2, hidden_size=hidden_size, num_heads=1, intermediate_size=8
    )


def open_cache(path: Path, warnings: list[str] | None = None, **context: str) -> ScoreCache:
    warn = [].append if warnings is None else warnings.append
    return ScoreCache(path, **({"supernet": "s", "data": "d"} | context), warn=warn)


scored = st.lists(
    st.tuples(st.integers(1, 9).map(architecture), st.floats(-1, 1)), max_size=8
)  # fmt: skip


@settings(max_examples=50)
@given(scored)
def test_what_was_added_is_read_back_exactly(pairs):
    with tempfile.TemporaryDirectory() as folder:
        cache = open_cache(Path(folder) / "scores.jsonl")
        expected: dict[Architecture, float] = {}
        for one, score in pairs:
            cache.add([one], [score])
            expected.setdefault(one, score)
        again = open_cache(cache.path)
        assert again.begin("any") == cache.begin("any") == expected
        by_name = sorted(expected, key=Architecture.to_json)
        assert list(again.begin("any")) == by_name  # whoever was the faster
        assert all(one in again and again[one] == score for one, score in expected.items())


@settings(max_examples=50)
@given(st.integers(0, 2000))
def test_a_line_cut_anywhere_loses_no_whole_line_and_later_lines_are_sound(cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.jsonl"
        many = [architecture(size) for size in (1, 2, 3, 4)]
        open_cache(path).add(many, [0.1, 0.2, 0.3, 0.4])
        content = path.read_bytes()
        kept = content[: cut % (len(content) + 1)]
        path.write_bytes(kept)

        warnings: list[str] = []
        cache = open_cache(path, warnings)
        assert len(cache) == kept.count(b"\n")
        cache.add([architecture(9)], [0.9])
        assert open_cache(path, warnings)[architecture(9)] == 0.9
        assert len(open_cache(path, warnings)) == kept.count(b"\n") + 1
        assert warnings == []


def test_supernets_and_data_sets_do_not_mix(tmp_path):
    path = tmp_path / "scores.jsonl"
    open_cache(path).add([architecture(1)], [0.1])
    open_cache(path, supernet="other").add([architecture(1)], [0.2])
    open_cache(path, data="other").add([architecture(1)], [0.3])
    assert open_cache(path)[architecture(1)] == 0.1
    assert open_cache(path, supernet="other")[architecture(1)] == 0.2
    assert open_cache(path, data="other")[architecture(1)] == 0.3
    assert len(open_cache(path, data="unknown")) == 0


def test_a_search_remembers_what_it_began_with(tmp_path):
    path = tmp_path / "scores.jsonl"
    cache = open_cache(path)
    cache.add([architecture(1)], [0.1])
    before = cache.begin("first")
    cache.add([architecture(2)], [0.2])
    assert len(cache.begin("second")) == 2
    assert cache.begin("first") == open_cache(path).begin("first") == before
    assert len(open_cache(path).begin("second")) == 2


@pytest.mark.parametrize(
    "line",
    ["", "[]", "7", "{", '{"supernet": "s", "data": "d"}', '\xff{"score": 1}'],
)
def test_a_damaged_line_is_reported_and_left_out(tmp_path, line):
    path = tmp_path / "scores.jsonl"
    open_cache(path).add([architecture(1), architecture(2)], [0.1, 0.2])
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, line.encode("latin-1"), second, b""]))
    warnings: list[str] = []
    cache = open_cache(path, warnings)
    assert len(cache) == 2
    assert len(warnings) == 1
    assert "line 2" in warnings[0]


@pytest.mark.parametrize("score", ['"high"', "null", "NaN", "[1]"])
def test_a_damaged_score_is_reported_and_left_out(tmp_path, score):
    path = tmp_path / "scores.jsonl"
    record = {"supernet": "s", "data": "d", "architecture": architecture(1).to_dict()}
    path.write_text(json.dumps(record)[:-1] + f', "score": {score}}}\n')
    warnings: list[str] = []
    assert len(open_cache(path, warnings)) == 0
    assert len(warnings) == 1


def test_what_cannot_be_scored_is_remembered_with_its_reason(tmp_path):
    cache = open_cache(tmp_path / "scores.jsonl")
    cache.exclude(architecture(3), "RuntimeError: out of memory")
    cache.add([architecture(4)], [0.5])
    again = open_cache(cache.path)
    assert again.failure(architecture(3)) == "RuntimeError: out of memory"
    assert again.failure(architecture(4)) is None
    assert architecture(3) not in again
    assert again.begin("any") == {architecture(4): 0.5}


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_scores_must_be_finite(tmp_path, score):
    cache = open_cache(tmp_path / "scores.jsonl")
    with pytest.raises(NasError, match="finite"):
        cache.add([architecture(1)], [score])
    assert not cache.path.exists()


def test_a_folder_is_no_cache(tmp_path):
    with pytest.raises(NasError, match="cannot be read"):
        open_cache(tmp_path)


def test_scores_added_before_a_kill_are_there(tmp_path):
    path = tmp_path / "scores.jsonl"
    code = """
import sys
from pathlib import Path
from nas.search.score_cache import ScoreCache
from supernet.architecture import Architecture
cache = ScoreCache(Path(sys.argv[1]), supernet="s", data="d")
for size in range(1, 10**9):
    one = Architecture.uniform(num_layers=2, hidden_size=size, num_heads=1, intermediate_size=8)
    cache.add([one], [size / 1000])
    print(size, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while process.stdout.readline() != "20\n":
        pass
    process.send_signal(signal.SIGKILL)
    reported = [20, *map(int, process.communicate()[0].split())]

    warnings: list[str] = []
    cache = open_cache(path, warnings)
    assert warnings == []
    assert all(cache[architecture(size)] == size / 1000 for size in range(1, reported[-1] + 1))


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(tmp_path):
    """A limit on the file's size stands for the disk: the last write fits in part."""
    path = tmp_path / "scores.jsonl"
    code = """
import resource, sys
from pathlib import Path
from nas.search.score_cache import ScoreCache
from supernet.architecture import Architecture
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
cache = ScoreCache(Path(sys.argv[1]), supernet="s", data="d")
try:
    for size in range(1, 99):
        one = Architecture.uniform(num_layers=2, hidden_size=size, num_heads=1, intermediate_size=8)
        cache.add([one], [size / 1000])
except OSError:
    print(size - 1)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert path.read_bytes().endswith(b"}\n")
    assert path.stat().st_size < 1000
    assert len(open_cache(path)) == int(done.stdout) > 2
