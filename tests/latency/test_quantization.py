from collections import Counter

import numpy as np
import onnx
import pytest

from latency.kernels import STACKED, Kernel
from latency.onnx_graph import classifier_model, kernel_model
from latency.quantization import calibrated, quantized
from latency.runtimes import runtime_of, workload
from latency.target import Target
from supernet.architecture import Architecture, EncoderShape, Layer
from tests.latency.test_onnx_graph import onnx_logits

SHAPE = EncoderShape(vocab_size=500, max_positions=32, num_labels=16)
ARCHITECTURE = Architecture(64, (Layer(4, 32, 128), Layer(2, 96, 64), Layer(4, 64, 256)))
FLOAT32 = Target(threads=1, batch_size=3, sequence_length=20)
INT8 = Target(threads=1, dtype="int8", batch_size=3, sequence_length=20)


def operators_of(model):
    return Counter(node.op_type for node in model.graph.node)


def matrices_of(model, kind):
    return sum(len(c.dims) == 2 and c.data_type == kind for c in model.graph.initializer)


def test_logits_are_near_those_of_float32():
    inputs = workload(FLOAT32, SHAPE)
    inputs["attention_mask"][0, 5:] = 0
    exact, rounded = (
        runtime_of(target).model(ARCHITECTURE, target, shape=SHAPE)(inputs)
        for target in (FLOAT32, INT8)
    )
    cosine = np.sum(exact * rounded) / np.linalg.norm(exact) / np.linalg.norm(rounded)
    assert cosine > 0.995
    assert not np.array_equal(exact, rounded)


def test_calibrated_logits_are_near_those_of_float32():
    inputs = workload(FLOAT32, SHAPE, seed=7)
    model = classifier_model(ARCHITECTURE, SHAPE)
    static = calibrated(model, [workload(FLOAT32, SHAPE, seed=seed) for seed in range(4)])
    exact, rounded = (onnx_logits(one, inputs) for one in (model, static))
    cosine = np.sum(exact * rounded) / np.linalg.norm(exact) / np.linalg.norm(rounded)
    assert cosine > 0.995
    assert not np.array_equal(exact, rounded)
    # What stays: biases, normalizations, the head, the first token's products that are one a head.
    left, whole = (
        sum(np.prod(c.dims) for c in one.graph.initializer if c.data_type == onnx.TensorProto.FLOAT)
        for one in (static, model)
    )
    assert left < 0.15 * whole


def test_every_product_with_a_matrix_is_of_int8():
    model = classifier_model(ARCHITECTURE, SHAPE)
    before, after = operators_of(model), operators_of(quantized(model))
    # Of the first token's attention, scores and their sum over tokens have no matrix, and the
    # products with one matrix a head stay as they are.
    assert (before["Attention"], before["MatMul"], before["Gemm"]) == (2, 14, 2)
    assert (after["QAttention"], after["MatMulInteger"], after["MatMul"]) == (2, 12, 4)
    assert not after["Attention"] + after["Gemm"]
    assert matrices_of(quantized(model), onnx.TensorProto.FLOAT) == 0


@pytest.mark.parametrize(
    "kernel",
    [
        Kernel("embedding", (64,)),
        Kernel("attention", (64, 4, 32)),
        Kernel("feed_forward", (64, 128)),
        Kernel("first_token_attention", (64, 4, 32)),
        Kernel("first_token_feed_forward", (64, 128)),
        Kernel("head", (64,)),
    ],
    ids=str,
)
def test_kernels_are_quantized_as_models_are(kernel):
    def output(target):
        call = runtime_of(target).kernel(kernel, target, shape=SHAPE, copies=copies)
        return call()[0]

    copies = 2 if kernel.kind in STACKED else 1
    assert matrices_of(quantized(kernel_model(kernel, SHAPE)), onnx.TensorProto.INT8) or (
        kernel.kind == "embedding"
    )
    exact = output(FLOAT32)
    assert np.linalg.norm(output(INT8) - exact) < 0.03 * np.linalg.norm(exact)


def test_a_file_of_float32_is_quantized_while_it_loads(tmp_path):
    onnx.save(classifier_model(ARCHITECTURE, SHAPE), tmp_path / "model.onnx")
    runtime, inputs = runtime_of(INT8), workload(INT8, SHAPE)
    loaded = runtime.load(tmp_path / "model.onnx", INT8)(inputs)
    np.testing.assert_array_equal(loaded, runtime.model(ARCHITECTURE, INT8, shape=SHAPE)(inputs))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_quantizing_is_silent_and_leaves_the_model_as_it_is(caplog):
    model = classifier_model(ARCHITECTURE, SHAPE)
    before = model.SerializeToString()
    quantized(model)
    assert model.SerializeToString() == before
    assert caplog.records == []
