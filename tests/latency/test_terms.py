import numpy as np
import pytest

from latency.calls import COPIES, Subject, calls_of, model_features
from latency.kernels import SIZES, Kernel, kernels_of
from latency.plots import multiply_adds
from latency.target import Workload
from latency.terms import coordinates, kernel_megabytes, kernel_terms
from supernet.architecture import Architecture, Layer
from supernet.errors import NasError
from supernet.student import new_student

MODEL = Architecture(48, (Layer(2, 32, 128), Layer(3, 48, 64)))
FACTORED = Architecture(48, (Layer(2, 32, 128, 2), Layer(3, 48, 64, 4)))
WORKLOAD = Workload(2, 16)


def shapes_of(kind, sizes):
    return np.array([[*WORKLOAD, *sizes]], dtype=np.int64)


@pytest.mark.parametrize("kind", SIZES)
def test_terms_never_fall_with_a_size(kind):
    sizes = (48, 4, 64)[: len(SIZES[kind])]
    if "factored" in kind:
        sizes = (48, 4, 64, 2) if kind.endswith("attention") else (48, 64, 2)
    small = kernel_terms(kind, shapes_of(kind, sizes))
    assert (small >= 0).all()
    for axis in range(2 + len(sizes)):
        larger = shapes_of(kind, sizes)
        larger[0, axis] *= 2
        if kind.endswith("attention") and axis == 3:
            continue  # more heads of the same joint width are smaller heads
        if "factored" in kind and axis == 1 + len(sizes):
            assert (kernel_terms(kind, larger) <= small).all()  # compressed more, it is less work
            continue
        assert (kernel_terms(kind, larger) >= small).all()


def test_heads_cost_whole_registers():
    """17 values a head take what 32 do, in the terms that count registers of 16."""
    sizes = {heads: shapes_of("attention", (64, 4, 4 * heads)) for heads in (16, 17, 32)}
    terms = {size: kernel_terms("attention", shape)[0] for size, shape in sizes.items()}
    assert (terms[17][-3:] == terms[32][-3:]).all()
    assert (terms[16][-3:] < terms[17][-3:]).all()
    assert coordinates("attention", sizes[16])[0, -1] == 0.0
    assert coordinates("attention", sizes[17])[0, -1] == pytest.approx(np.log(32 / 17))


@pytest.mark.parametrize("first_token", [True, False])
@pytest.mark.parametrize("model", [MODEL, FACTORED], ids=str)
def test_all_weights_of_the_layers_are_counted(model, first_token):
    kernels = kernels_of(model, first_token_last_layer=first_token)
    of_layers = sum(
        kernel_megabytes(k.kind, shapes_of(k.kind, k.sizes))[0]
        for k in kernels
        if k.kind.endswith(("attention", "feed_forward"))
    )
    weights = sum(
        parameter.numel()
        for name, parameter in new_student(model).named_parameters()
        if ".layer." in name and "LayerNorm" not in name and not name.endswith("bias")
    )
    assert of_layers == pytest.approx(4e-6 * weights)
    assert np.exp(model_features(model, WORKLOAD)) == pytest.approx([4e-6 * weights, 32])


@pytest.mark.parametrize("model", [MODEL, FACTORED], ids=str)
def test_multiply_adds_are_those_of_the_model(model):
    """But for the embedding, where there are none, and the pooler."""
    found = sum(
        multiply_adds(kernel, WORKLOAD)
        for kernel in kernels_of(model, first_token_last_layer=False)
        if kernel.kind != "head"
    )
    assert 2 * found == model.flops(WORKLOAD.sequence_length, WORKLOAD.batch_size)


def test_keys_and_values_of_factors_are_formed_for_all_tokens():
    compressed = Kernel("first_token_factored_attention", (48, 2, 32, 2))
    products = 4 * 9 * (48 + 32)  # 9 columns times rows are half as large as 48 by 32
    scores = 2 * 16 * 32
    assert multiply_adds(compressed, Workload(1, 16)) == products + scores + 15 * products // 2


def test_calls_count_their_kernels():
    kernel = Subject.kernel(Kernel("attention", (48, 2, 32)), WORKLOAD)
    calls = calls_of([kernel, Subject(MODEL, WORKLOAD)], first_token_last_layer=False)
    assert kernel.copies == COPIES
    assert calls.shapes["attention"].tolist() == [[2, 16, 48, 2, 32], [2, 16, 48, 3, 48]]
    assert calls.counts["attention"].tolist() == [[COPIES, 0], [1, 1]]
    assert calls.counts["call"].tolist() == [[1], [1]]
    assert calls.counts["head"].tolist() == [[0], [1]]
    assert calls.is_model.tolist() == [False, True]
    assert calls.extras[:, -2:].tolist() == [[0, 0], [1, 2]]


@pytest.mark.parametrize(
    ("what", "workload", "copies", "says"),
    [
        (Kernel("head", (48,)), WORKLOAD, 2, "once"),
        (MODEL, WORKLOAD, 2, "once"),
        (MODEL, WORKLOAD, 0, "copies"),
        (MODEL, Workload(0, 16), 1, "batch_size"),
        (MODEL, Workload(1, -16), 1, "sequence_length"),
    ],
)
def test_a_subject_is_checked(what, workload, copies, says):
    with pytest.raises(NasError, match=says):
        Subject(what, workload, copies)
