import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from latency.design import kernel_design, model_design
from latency.fingerprint import Fingerprint
from latency.kernels import STACKED, kernels_of
from latency.predictor import LatencyPredictor
from latency.profile import KernelRecord, ModelRecord, Profile
from latency.profiler import COPIES, KERNELS, MODELS, REPEATED
from latency.target import Target
from latency.timing import Block, Record
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
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
CALL_MS = 0.006


def kernel_ms(kernel):
    """A made-up device: products, normalizations and softmax at fixed speeds, with a kink."""
    sizes = dict(zip(("hidden_size", "num_heads", "qkv_size"), kernel.sizes, strict=False))
    if kernel.kind == "call":
        return CALL_MS
    hidden = sizes["hidden_size"]
    if kernel.kind in ("embedding", "head"):
        return 0.004 + 4e-5 * hidden
    tokens = 1 if kernel.kind.startswith("first_token") else 64
    if kernel.kind.endswith("feed_forward"):
        work = 2 * hidden * kernel["intermediate_size"]
    else:
        work = 4 * hidden * kernel["qkv_size"] + 64 * (kernel["qkv_size"] + kernel["num_heads"])
    speed = 4e7 if hidden % 64 == 0 else 3.8e7  # operations a millisecond
    return 0.01 + tokens * work / speed


def model_ms(architecture):
    """The sum of the kernels, and what single kernels do not show: 5% for deep models."""
    kernels = kernels_of(architecture, first_token_last_layer=True)
    return sum(map(kernel_ms, kernels)) * (1 + 0.01 * architecture.num_layers)


def record_of(latency_ms, rng):
    """Ten blocks with 1% of noise."""
    samples = latency_ms * (1 + 0.01 * rng.random((10, 3)))
    return Record(tuple(Block(tuple(map(float, block)), 1.0, 1.0, 0) for block in samples))


def synthetic_profile(space=SPACE):
    rng = np.random.default_rng(0)
    kernels = kernel_design(space, KERNELS, first_token_last_layer=True, rng=rng)
    models = model_design(space, MODELS, rng=rng)

    def kernel_record(kernel):
        copies = COPIES if kernel.kind in STACKED else 1
        time_ms = kernel_ms(kernel) * copies + (CALL_MS if kernel.kind != "call" else 0.0)
        return KernelRecord(kernel, copies, record_of(time_ms, rng))

    return Profile(
        target=Target(threads=1, batch_size=1, sequence_length=64),
        fingerprint=Fingerprint.of_this_machine(),
        space=space.to_dict(),
        shape=EncoderShape(),
        seed=0,
        time_budget_s=90.0,
        kernels=tuple(map(kernel_record, kernels)),
        models=tuple(
            ModelRecord(a, record_of(model_ms(a), rng)) for a in [*models, *models[:REPEATED]]
        ),
        complete=True,
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
    assert errors.mean() < 0.03
    assert errors.max() < 0.10


def test_a_batch_is_predicted_as_its_architectures_are(predictor, unseen):
    alone = np.concatenate([predictor.predict([a]) for a in unseen[:20]])
    np.testing.assert_allclose(predictor.predict(unseen[:20]), alone, rtol=1e-9)
    batch = ArchitectureBatch.of(unseen[:20])
    np.testing.assert_array_equal(predictor.predict(batch), predictor.predict(unseen[:20]))


def test_the_sum_is_that_of_the_kernels(predictor, unseen):
    for architecture in unseen[:10]:
        expected = predictor.call_ms_ + sum(
            predictor.kernels_[kernel.kind].predict(np.array([kernel.sizes]))[0]
            for kernel in kernels_of(architecture, first_token_last_layer=True)
            if kernel.kind != "call"
        )
        assert predictor.kernel_sum([architecture])[0] == pytest.approx(expected)


def test_shapes_between_the_measured_are_predicted(predictor):
    odd = Architecture.uniform(
        num_layers=3, hidden_size=200, num_heads=3, qkv_size=150, intermediate_size=700
    )
    assert predictor.predict([odd])[0] == pytest.approx(model_ms(odd), rel=0.1)


def test_nothing_to_predict_is_nothing(predictor):
    assert predictor.predict([]).shape == (0,)


def test_percentiles_are_in_order(predictor, unseen):
    p50, p95 = predictor.predict(unseen), predictor.predict(unseen, percentile=95)
    assert (predictor.predict_low(unseen) <= p50).all()
    assert (p50 <= p95).all()
    with pytest.raises(NasError, match="percentile"):
        predictor.predict(unseen, percentile=99)


def test_errors_stand_beside_their_floor(predictor):
    errors = predictor.errors()
    assert errors.models == MODELS
    assert errors.floor_models == REPEATED
    assert errors.floor_mape_percent < errors.mape_percent < 5
    assert errors.within_10_percent > 0.9
    assert errors.kendall_tau > 0.95


def test_errors_are_of_medians():
    """Where every fourth call is slow, medians are not, and where every other is, they are."""
    profile = synthetic_profile()

    def errors(samples_of):
        models = tuple(
            replace(entry, record=Record(tuple(
                replace(block, samples_ms=samples_of(index, block.samples_ms[0]))
                for block in entry.record.blocks
            )))
            for index, entry in enumerate(profile.models)
        )  # fmt: skip
        return LatencyPredictor(replace(profile, models=models)).fit().errors()

    steady = errors(lambda index, ms: (ms, ms, ms, 2 * ms))
    assert steady.within_10_percent > 0.9
    assert steady.floor_within_10_percent == 1.0
    jumping = errors(lambda index, ms: (ms, (1 + index % 2) * ms, (1 + index % 2) * ms))
    assert jumping.within_10_percent < 0.6


def test_a_model_measured_twice_counts_with_the_geometric_mean():
    profile = synthetic_profile()

    def scaled(record, factor):
        return Record(tuple(
            replace(block, samples_ms=tuple(factor * ms for ms in block.samples_ms))
            for block in record.blocks
        ))  # fmt: skip

    def predictions(*factors):
        """Of models measured twice, each time slower than they are by one of ``factors``."""
        times = [
            replace(entry, record=scaled(entry.record, factor))
            for factor in factors
            for entry in profile.models[:MODELS]
        ]
        fitted = LatencyPredictor(replace(profile, models=tuple(times))).fit()
        return fitted.predict([entry.architecture for entry in profile.models])

    np.testing.assert_allclose(predictions(1.0, 4.0), predictions(2.0, 2.0), rtol=1e-9)


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
    assert (errors.models, errors.floor_models) == (1, 1)
    assert errors.mape_percent < 10
    json.dumps(errors.to_dict(), allow_nan=False)


def test_layers_that_the_profiles_space_lacks_are_one_clear_line():
    predictor = LatencyPredictor(synthetic_profile(one_architecture(1))).fit()
    deep = Architecture(64, (Layer(2, 96, 128),) * 2)
    with pytest.raises(NasError, match="space single has no layer with the kernel attention"):
        predictor.predict([deep])
    padded = ArchitectureBatch.of([deep, one_architecture(1).largest]).take(np.array([1]))
    assert predictor.predict(padded) == predictor.predict([one_architecture(1).largest])


def test_fitting_twice_gives_the_same(predictor, unseen):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = LatencyPredictor(synthetic_profile()).fit()
    np.testing.assert_array_equal(again.predict(unseen), predictor.predict(unseen))


def test_an_incomplete_profile_is_refused():
    profile = synthetic_profile()
    with pytest.raises(NasError, match="not complete"):
        LatencyPredictor(replace(profile, models=(), complete=False))
