import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.calls import Subject, calls_of
from latency.design import draw, opening
from latency.fingerprint import Fingerprint
from latency.kernels import kernels_of
from latency.predictor import LatencyPredictor
from latency.profile import Measurement, Profile, Session
from latency.target import Target, Workload
from latency.timing import Block, Record
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.factors import entries
from supernet.space import SearchSpace

SPACE = SearchSpace.from_dict(
    {
        "name": "middling",
        "num_layers": [1, 2, 3, 4, 5, 6],
        "hidden_size": {"min": 64, "max": 384, "step": 32},
        "num_heads": [2, 4, 6, 12],
        "qkv_size": {"min": 96, "max": 384, "step": 96},
        "intermediate_size": {"min": 128, "max": 1536, "step": 128},
        "uniform": False,
    }
)
COMPRESSED = replace(SPACE, compression=(1, 2, 4))
TARGET = Target(threads=1, batch_size=1, sequence_length=64)
GRID = (Workload(1, 32), Workload(1, 64), Workload(4, 64))
CALL_MS = 0.006


def kernel_ms(kernel, workload):
    """A made-up device: products, normalizations and softmax at fixed speeds, with a kink."""
    if kernel.kind == "call":
        return CALL_MS
    all_tokens = workload.batch_size * workload.sequence_length
    hidden = kernel["hidden_size"]
    if kernel.kind in ("embedding", "head"):
        return 0.004 + 4e-5 * hidden * workload.batch_size
    tokens = workload.batch_size if kernel.kind.startswith("first_token") else all_tokens
    compression = kernel.layer.compression
    if kernel.kind.endswith("feed_forward"):
        work = 2 * entries(hidden, kernel["intermediate_size"], compression)
    else:
        qkv, heads = kernel["qkv_size"], kernel["num_heads"]
        work = 4 * entries(hidden, qkv, compression) + workload.sequence_length * (qkv + heads)
    speed = 4e7 if hidden % 64 == 0 else 3.8e7  # operations a millisecond
    start = 0.01 if compression == 1 else 0.02  # two products where there was one
    return start + tokens * work / speed


def subject_ms(subject):
    """The sum of the kernels, and what single kernels do not show: 1% a layer."""
    kernels = subject.kernels(first_token_last_layer=True)
    depth = subject.what.num_layers if isinstance(subject.what, Architecture) else 0
    return sum(kernel_ms(k, subject.workload) for k in kernels) * (1 + 0.01 * depth)


def model_ms(architecture, workload=TARGET.workload):
    return subject_ms(Subject(architecture, workload))


def record_of(latency_ms, rng, noise=0.01):
    """Ten blocks, off by something of their own and something in common."""
    common = latency_ms * np.exp(noise * rng.standard_normal())
    samples = common * (1 + 0.005 * rng.random((10, 3)))
    return Record(tuple(Block(tuple(map(float, block)), 1.0, 1.0, 0) for block in samples))


def synthetic_profile(space=SPACE, workloads=(TARGET.workload,), drawn=60, again=12, noise=0.01):
    rng = np.random.default_rng(0)
    planned = opening([space], workloads, first_token_last_layer=True, rng=rng)
    models = draw([space], workloads, drawn, rng)
    planned += [(one, "drawn") for one in models] + [(one, "again") for one in models[:again]]
    planned += [
        (Subject.kernel(kernel, workloads[-1]), "chosen")
        for architecture in (one.what for one in models[:10])
        for kernel in kernels_of(architecture, first_token_last_layer=True)
    ]
    return Profile(
        target=TARGET,
        workloads=tuple(workloads),
        fingerprint=Fingerprint.of_this_machine(TARGET),
        spaces=(space.to_dict(),),
        shape=EncoderShape(),
        seed=0,
        seconds=90.0,
        complete=True,
        sessions=(Session("2026-01-01T00:00:00+00:00"),),
        measurements=tuple(
            Measurement(subject, role, 0, record_of(subject_ms(subject), rng, noise))
            for subject, role in planned
        ),
    )


@pytest.fixture(scope="module")
def predictor():
    return LatencyPredictor(synthetic_profile()).fit()


@pytest.fixture(scope="module")
def unseen():
    rng = np.random.default_rng(1)
    return [SPACE.sample(rng) for _ in range(200)]


def test_unseen_architectures_are_predicted_within_a_few_percent(predictor, unseen):
    expected = np.array([model_ms(a) for a in unseen])
    errors = np.abs(predictor.predict(unseen) / expected - 1)
    assert errors.mean() < 0.02
    assert errors.max() < 0.10


def test_compressed_architectures_are_predicted_as_well():
    predictor = LatencyPredictor(synthetic_profile(COMPRESSED, drawn=120)).fit()
    rng = np.random.default_rng(1)
    unseen = [COMPRESSED.sample(rng) for _ in range(200)]
    expected = np.array([model_ms(a) for a in unseen])
    errors = np.abs(predictor.predict(unseen) / expected - 1)
    assert errors.mean() < 0.03
    calls = calls_of([Subject(a, TARGET.workload) for a in unseen], first_token_last_layer=True)
    np.testing.assert_allclose(
        predictor.predict(unseen), predictor.posterior_.predict(calls), rtol=1e-9
    )
    block = next(iter(replace(COMPRESSED, uniform=True).enumerate(block_size=500)))
    assert block.has_equal_layers
    np.testing.assert_allclose(
        predictor.predict(block), predictor.predict(block.expanded()), rtol=1e-9
    )


def test_compressed_layers_that_the_profiles_space_lacks_are_one_clear_line(predictor):
    compressed = Architecture(64, (Layer(2, 96, 128, 4),) * 2)
    with pytest.raises(NasError, match="no model of the profile has the kernel first_token_fact"):
        predictor.predict([compressed])


def test_a_batch_is_predicted_as_its_architectures_are(predictor, unseen):
    alone = np.concatenate([predictor.predict([a]) for a in unseen[:20]])
    np.testing.assert_allclose(predictor.predict(unseen[:20]), alone, rtol=1e-9)
    batch = ArchitectureBatch.of(unseen[:20])
    np.testing.assert_array_equal(predictor.predict(batch), predictor.predict(unseen[:20]))


def test_equal_layers_in_one_column_are_predicted_as_written_out(predictor):
    for block in replace(SPACE, uniform=True).enumerate(block_size=50):
        assert block.has_equal_layers
        np.testing.assert_allclose(
            predictor.predict(block), predictor.predict(block.expanded()), rtol=1e-9
        )


def test_tables_give_what_the_process_does(predictor, unseen):
    """Lookup and arithmetic over arrays against the process's own sum over kernels."""
    calls = calls_of([Subject(a, TARGET.workload) for a in unseen], first_token_last_layer=True)
    np.testing.assert_allclose(
        predictor.predict(unseen), predictor.posterior_.predict(calls), rtol=1e-9
    )


layers = st.builds(
    Layer, st.sampled_from([2, 4, 6]), st.sampled_from([96, 192, 384]), st.sampled_from([128, 1024])
)


@settings(deadline=None)
@given(st.sampled_from([64, 160, 384]), st.lists(layers, min_size=1, max_size=5), layers)
def test_a_further_layer_is_never_predicted_faster(predictor, hidden, of, further):
    fewer, more = Architecture(hidden, tuple(of)), Architecture(hidden, (*of, further))
    assert predictor.predict([more])[0] > predictor.predict([fewer])[0]


@settings(deadline=None)
@given(st.sampled_from([64, 160, 384]), st.lists(layers, min_size=2, max_size=5), st.randoms())
def test_layers_but_the_last_may_stand_in_any_order(predictor, hidden, of, random):
    shuffled = of[:-1]
    random.shuffle(shuffled)
    ordered, other = Architecture(hidden, tuple(of)), Architecture(hidden, (*shuffled, of[-1]))
    assert predictor.predict([other])[0] == pytest.approx(predictor.predict([ordered])[0])


def test_shapes_between_the_measured_are_predicted(predictor):
    odd = Architecture.uniform(
        num_layers=3, hidden_size=200, num_heads=3, qkv_size=150, intermediate_size=700
    )
    assert predictor.predict([odd])[0] == pytest.approx(model_ms(odd), rel=0.1)


def test_nothing_to_predict_is_nothing(predictor):
    assert predictor.predict([]).shape == (0,)


def test_however_poor_the_profile_times_are_those_of_models(unseen):
    poor = LatencyPredictor(synthetic_profile(noise=1.5)).fit()
    subjects = [Subject(one, TARGET.workload) for one in unseen]
    assert (poor.posterior_.predict(calls_of(subjects, first_token_last_layer=True)) < 0).any()
    fastest = min(one.steady_ms for one in poor.profile.latencies)
    assert (poor.predict(unseen) >= fastest).all()
    assert (poor.held_out()[0] >= fastest).all()


def test_percentiles_are_in_order(predictor, unseen):
    assert (predictor.predict(unseen) <= predictor.predict(unseen, percentile=95)).all()
    with pytest.raises(NasError, match="percentile"):
        predictor.predict(unseen, percentile=99)


def test_one_profile_serves_a_grid_and_the_mixes_within_it(unseen):
    predictor = LatencyPredictor(synthetic_profile(workloads=GRID, drawn=120)).fit()
    for workload in (*GRID, Workload(2, 48)):
        expected = np.array([model_ms(a, workload) for a in unseen])
        predicted = predictor.predict(unseen, target=TARGET.of(workload))
        assert np.abs(predicted / expected - 1).mean() < 0.05
    mix = replace(TARGET, batch_size=2, lengths=((32, 0.5), (64, 0.5)))
    short, long = (predictor.predict(unseen, target=TARGET.of(Workload(2, n))) for n in (32, 64))
    np.testing.assert_allclose(
        predictor.predict(unseen, target=mix), 0.25 * short + 0.75 * long, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threads": 2}, "threads 1, the target asks for 2"),
        ({"dtype": "int8"}, "dtype float32, the target asks for int8"),
        ({"sequence_length": 128}, "the target asks for batch 1, sequence 128"),
        ({"batch_size": 2}, "the target asks for batch 2, sequence 64"),
    ],
)
def test_another_target_is_refused(predictor, unseen, change, says):
    with pytest.raises(NasError, match=says):
        predictor.predict(unseen, target=replace(TARGET, **change))


def test_the_bound_covers_as_it_says():
    """Held-out models of the same noise lie below the bound as often as is promised."""
    predictor = LatencyPredictor(synthetic_profile(drawn=300, again=20, noise=0.03)).fit()
    rng = np.random.default_rng(7)
    models = [SPACE.sample(rng) for _ in range(1000)]
    measured = np.array([model_ms(a) for a in models]) * np.exp(0.03 * rng.standard_normal(1000))
    for confidence in (0.8, 0.95):
        covered = (measured <= predictor.predict_upper(models, confidence)).mean()
        assert covered == pytest.approx(confidence, abs=0.03)


def test_the_margin_is_the_conformal_quantile(predictor):
    predicted, measured = predictor.held_out()
    errors = np.sort(measured / predicted - 1)
    rank = int(np.ceil((len(errors) + 1) * 0.9))
    assert predictor.margin(0.9) == errors[rank - 1]
    assert predictor.margin(0.95) >= predictor.margin(0.9)
    assert predictor.margin(predictor.max_confidence) == errors[-1]


@pytest.mark.parametrize("confidence", [0.0, 0.999, 1.0, -1.0])
def test_a_confidence_beyond_the_evidence_is_refused(predictor, confidence):
    with pytest.raises(NasError, match="drawn at random support"):
        predictor.margin(confidence)


def test_left_out_predictions_have_not_seen_what_they_predict():
    """A model that was measured at twice its time is still predicted at about its time."""
    profile = synthetic_profile()
    row = next(n for n, m in enumerate(profile.measurements) if m.role == "drawn")
    wrong = replace(
        profile.measurements[row],
        record=record_of(
            2 * subject_ms(profile.measurements[row].subject), np.random.default_rng(0)
        ),
    )
    measurements = list(profile.measurements)
    measurements[row] = wrong
    repeated = [n for n, m in enumerate(measurements) if m.subject == wrong.subject and n != row]
    for n in reversed(repeated):
        del measurements[n]
    predictor = LatencyPredictor(replace(profile, measurements=tuple(measurements))).fit()
    predicted, measured = predictor.held_out()
    assert measured[0] / predicted[0] == pytest.approx(2.0, rel=0.1)


def test_errors_stand_beside_their_floor(predictor):
    errors = predictor.errors()
    assert errors.models == 60
    assert errors.floor_models == 12
    assert errors.mape_percent < 3 * errors.floor_mape_percent
    assert errors.within_10_percent > 0.9
    assert errors.kendall_tau > 0.95
    assert sum(card.models for card in errors.by_latency.values()) == 60
    json.dumps(errors.to_dict(), allow_nan=False)


def one_architecture(num_layers):
    """A space of a single architecture."""
    sizes = {"hidden_size": [64], "num_heads": [2], "qkv_size": [96], "intermediate_size": [128]}
    return SearchSpace.from_dict(
        {"name": "single", "num_layers": [num_layers], "uniform": True} | sizes
    )


@pytest.mark.parametrize("num_layers", [1, 3])
def test_a_space_of_one_architecture_is_predicted_and_has_errors(num_layers):
    space = one_architecture(num_layers)
    predictor = LatencyPredictor(synthetic_profile(space)).fit()
    assert predictor.predict([space.largest])[0] == pytest.approx(model_ms(space.largest), rel=0.05)
    errors = predictor.errors()
    assert errors.models == 1
    assert errors.mape_percent < 30
    assert errors.margin_95_percent is None
    json.dumps(errors.to_dict(), allow_nan=False)


def test_layers_that_the_profiles_space_lacks_are_one_clear_line():
    predictor = LatencyPredictor(synthetic_profile(one_architecture(1))).fit()
    deep = Architecture(64, (Layer(2, 96, 128),) * 2)
    with pytest.raises(NasError, match="no model of the profile has the kernel attention"):
        predictor.predict([deep])
    padded = ArchitectureBatch.of([deep, one_architecture(1).largest]).take(np.array([1]))
    assert predictor.predict(padded) == predictor.predict([one_architecture(1).largest])


def test_fitting_twice_gives_the_same(predictor, unseen):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = LatencyPredictor(synthetic_profile()).fit()
    np.testing.assert_array_equal(again.predict(unseen), predictor.predict(unseen))


def test_an_incomplete_profile_is_refused():
    with pytest.raises(NasError, match="not complete"):
        LatencyPredictor(replace(synthetic_profile(), complete=False))


def disturbed(one):
    blocks = tuple(replace(block, preemptions=1) for block in one.record.blocks)
    return replace(one, record=Record(blocks))


def test_what_was_disturbed_does_not_count(unseen):
    profile = synthetic_profile()
    slow = record_of(9.0, np.random.default_rng(0))
    wrong = [disturbed(replace(m, record=slow)) for m in profile.measurements[:20]]
    both = replace(profile, measurements=(*profile.measurements, *wrong))
    assert both.unsteady_share == pytest.approx(20 / len(both.measurements))
    np.testing.assert_allclose(
        LatencyPredictor(both).fit().predict(unseen),
        LatencyPredictor(profile).fit().predict(unseen),
    )


def test_a_profile_of_a_busy_machine_is_refused():
    profile = synthetic_profile()
    half = 2 * len(profile.measurements) // 3
    busy = tuple(map(disturbed, profile.measurements[:half])) + profile.measurements[half:]
    with pytest.raises(NasError, match=r"6[67]% of its measurements are not steady"):
        LatencyPredictor(replace(profile, measurements=busy))
