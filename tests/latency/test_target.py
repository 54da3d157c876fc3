import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency.target import Budget, Latency, Target
from supernet.errors import NasError

CPU = Target(threads=2, batch_size=1, sequence_length=64)


def test_target_survives_json():
    assert Target.from_dict(json.loads(json.dumps(CPU.to_dict()))) == CPU


def test_target_reads_as_a_sentence():
    assert str(CPU) == "cpu onnxruntime float32, 2 threads, batch 1, sequence 64"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"device": "tpu"}, "device"),
        ({"runtime": "caffe"}, "runtime"),
        ({"dtype": "float64"}, "dtype"),
        ({"threads": 0}, "threads"),
        ({"batch_size": True}, "batch_size"),
        ({"sequence_length": 6.5}, "sequence_length"),
        ({"cores": 2}, "cores"),
    ],
)
def test_bad_target_names_the_field(change, named):
    with pytest.raises(NasError, match=named):
        Target.from_dict(CPU.to_dict() | change)


@pytest.mark.parametrize(
    ("name", "most"), [("threads", 1024), ("batch_size", 4096), ("sequence_length", 8192)]
)
def test_counts_have_a_limit(name, most):
    assert getattr(Target.from_dict(CPU.to_dict() | {name: most}), name) == most
    with pytest.raises(NasError) as refused:
        Target.from_dict(CPU.to_dict() | {name: 10**9})
    assert str(refused.value) == (
        f"target: {name} must be a whole number of at least 1 and at most {most}, not 1000000000"
    )


def test_lengths_have_the_limit_of_sequence_length():
    with pytest.raises(NasError, match=r"lengths: a length must be .* at most 8192, not 8193"):
        Target(threads=1, batch_size=1, sequence_length=64, lengths=((8193, 0.5), (64, 0.5)))


def test_missing_count_is_named():
    with pytest.raises(NasError, match="threads is missing"):
        Target.from_dict({"batch_size": 1, "sequence_length": 64})


def test_a_target_is_a_mapping():
    with pytest.raises(NasError, match="mapping"):
        Target.from_dict([1])


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("5ms", Budget(milliseconds=5.0)),
        (" 2.5 ms ", Budget(milliseconds=2.5)),
        ("4x", Budget(speedup=4.0)),
        ("9.4x@p95", Budget(speedup=9.4, percentile=95)),
    ],
)
def test_budget_is_parsed(text, budget):
    assert Budget.parse(text) == budget


@pytest.mark.parametrize("text", ["", "5", "ms", "5s", "-5ms", "0ms", "1.2.3ms", "5ms@p50x"])
def test_other_budgets_are_refused(text):
    with pytest.raises(NasError, match="budget"):
        Budget.parse(text)


def test_only_measured_percentiles_can_be_limited():
    with pytest.raises(NasError, match="percentile"):
        Budget.parse("5ms@p99")


def test_budget_needs_exactly_one_limit():
    for limits in ({}, {"milliseconds": 1.0, "speedup": 2.0}):
        with pytest.raises(NasError, match="either"):
            Budget(**limits)


@given(st.floats(0.01, 1e4), st.sampled_from(["ms", "x"]), st.sampled_from([50, 95]))
def test_budget_survives_its_own_text(value, unit, percentile):
    parsed = Budget.parse(f"{value:g}{unit}@p{percentile}") if value < 1e4 else Budget(speedup=1.0)
    assert Budget.parse(str(parsed)) == parsed


def test_speedup_is_of_the_teacher():
    assert Budget.parse("4x").limit_ms(teacher_ms=20.0) == 5.0
    assert Budget.parse("7ms").limit_ms() == 7.0
    with pytest.raises(NasError, match="teacher"):
        Budget.parse("4x").limit_ms()


@given(st.lists(st.floats(0.001, 1e3), min_size=1, max_size=50))
def test_percentiles_are_numpys(samples):
    latency = Latency.of(samples)
    expected = np.percentile(samples, [50, 95, 0])
    np.testing.assert_allclose(
        [latency.p50_ms, latency.p95_ms, latency.minimum_ms], expected, rtol=1e-12
    )
    assert latency.at(95) == latency.p95_ms


def test_latency_needs_samples():
    with pytest.raises(NasError, match="sample"):
        Latency.of([])


histograms = st.dictionaries(st.integers(1, 512), st.integers(1, 1000), min_size=1, max_size=60)


@given(histograms, st.integers(1, 16))
def test_a_mix_survives_json_and_its_calls_have_all_shares(histogram, batch_size):
    mix = Target.from_dict({"threads": 1, "batch_size": batch_size, "lengths": histogram})
    assert Target.from_dict(json.loads(json.dumps(mix.to_dict()))) == mix
    assert mix.sequence_length == max(histogram)
    for one in (mix, mix.coarse()):
        shares = [share for _, share in one.workloads()]
        assert sum(shares) == pytest.approx(1)
        assert all(share > -1e-12 for share in shares)
        assert one.workloads()[-1][0].sequence_length == max(histogram)
    assert len(mix.coarse().lengths) <= 8
    mean = [sum(t.sequence_length * s for t, s in one.workloads()) for one in (mix, mix.coarse())]
    assert mean[1] >= mean[0] - 1e-6


@given(
    st.dictionaries(st.integers(1, 64), st.integers(1, 9), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_a_batch_is_as_long_as_its_longest_text(histogram, batch_size):
    """Against the mean of the longest of all ordered batches of texts, written out."""
    mix = Target.from_dict({"threads": 1, "batch_size": batch_size, "lengths": histogram})
    total = sum(histogram.values())
    expected = sum(
        max(batch) * math.prod(histogram[length] / total for length in batch)
        for batch in itertools.product(histogram, repeat=batch_size)
    )
    found = sum(one.sequence_length * share for one, share in mix.workloads())
    assert found == pytest.approx(expected)


def test_empty_bins_are_nothing():
    mix = Target.from_dict({"threads": 1, "batch_size": 1, "lengths": {16: 0, 32: 5}})
    assert mix.lengths == ((32, 1.0),)


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ([16, 32], "map tokens to shares"),
        ({"many": 1}, "map tokens to shares"),
        ({16: -1, 32: 3}, "share of 16 tokens"),
        ({0: 1, 8: 1}, "a length"),
        ({16: float("inf")}, "map tokens to shares"),
    ],
)
def test_bad_lengths_are_one_clear_line(lengths, says):
    with pytest.raises(NasError, match=says):
        Target.from_dict({"threads": 1, "batch_size": 1, "lengths": lengths})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dtype": "int8", "runtime": "torch-eager"}, "offers float32, not int8"),
        ({"device": "cuda", "runtime": "torch-eager", "dtype": "int8"}, "bfloat16, not int8"),
        ({"runtime": "torch-cuda-graphs"}, "is not offered"),
    ],
)
def test_combinations_that_no_runtime_has_are_refused(change, says):
    with pytest.raises(NasError, match=says):
        Target.from_dict(CPU.to_dict() | change)


def test_an_expected_latency_weighs_all_statistics():
    short, long = Latency.of([1.0, 1.0, 2.0]), Latency.of([3.0, 5.0])
    mixed = Latency.expected([short, long], [0.25, 0.75])
    assert mixed.p50_ms == pytest.approx(0.25 * 1.0 + 0.75 * 4.0)
    assert mixed.minimum_ms == pytest.approx(0.25 * 1.0 + 0.75 * 3.0)
    assert len(mixed.samples_ms) == 5
