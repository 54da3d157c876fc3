from __future__ import annotations

import pytest

from latency.durations import parse_seconds
from latency.options import changed, default_target, grid, parse_counts, parse_share
from latency.target import Target, Workload
from supernet.errors import NasError

TARGET = Target(threads=1, batch_size=2, sequence_length=64)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), (" 1.5 m ", 90), ("1h", 3600), (".5", 0.5)]
)
def test_times(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3", "3 days", "m", "1e3", "nan"])
def test_no_times(text):
    with pytest.raises(NasError, match=r"time .* is not understood"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["3", "0%", "100%", "-1%", "0.03", "x%"])
def test_no_shares(text):
    assert parse_share("3%") == 0.03
    with pytest.raises(NasError, match=r"error .* is not understood"):
        parse_share(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1,", "1.5", "a", "1;2", "²"])
def test_no_counts(text):
    assert parse_counts("batch", "8, 1,8") == (8, 1)
    with pytest.raises(NasError, match=r"batch .* is not understood"):
        parse_counts("batch", text)


def test_a_grid_is_of_all_combinations_or_the_targets_own():
    assert grid(TARGET, (), ()) == (TARGET.workload,)
    assert grid(TARGET, (1, 8), (16, 32)) == (
        Workload(1, 16), Workload(1, 32), Workload(8, 16), Workload(8, 32),
    )  # fmt: skip


def test_a_long_histogram_is_measured_at_few_lengths():
    lengths = dict.fromkeys(range(1, 101), 1)
    target = Target.from_dict({"threads": 1, "batch_size": 1, "lengths": lengths})
    found = [one.sequence_length for one in grid(target, (), ())]
    assert len(found) == 9
    assert (found[0], found[-1]) == (1, 100)


def test_what_is_given_replaces_what_the_target_says(tmp_path):
    path = tmp_path / "lengths.json"
    path.write_text('{"16": 1, "32": 3}')
    mixed = changed(TARGET, lengths=path, threads=2, dtype=None)
    assert mixed.threads == 2
    assert mixed.lengths == ((16, 0.25), (32, 0.75))
    assert changed(mixed, sequence_length=8).lengths == ()
    with pytest.raises(NasError, match="either --sequence or --lengths"):
        changed(TARGET, lengths=path, sequence_length=8)
    assert default_target().threads <= 4
