from __future__ import annotations

import numpy as np
import onnx
import pytest

from latency.onnx_graph import classifier_model
from latency.onnx_session import feeds, start
from latency.quantization import quantized
from latency.target import Target
from latency.weightless import RandomWeights, stripped
from supernet.architecture import Architecture, EncoderShape, Layer

SHAPE = EncoderShape(vocab_size=64, max_positions=16)
TARGET = Target(threads=1, batch_size=2, sequence_length=16)
ARCHITECTURE = Architecture(32, (Layer(2, 16, 64), Layer(1, 24, 32)))


@pytest.fixture(params=["float32", "int8"])
def model(request):
    whole = classifier_model(ARCHITECTURE, SHAPE)
    return quantized(whole) if request.param == "int8" else whole


def test_a_graph_given_its_weights_back_is_what_it_was(model):
    graph, stubs = stripped(model)
    assert len(graph) < 0.6 * len(model.SerializeToString())
    weights = {
        one.name: onnx.numpy_helper.to_array(one)
        for one in model.graph.initializer
        if one.name in stubs
    }
    assert weights.keys() == stubs.keys()
    before = start(model.SerializeToString(), TARGET)
    after = start(graph, TARGET, weights)
    inputs = feeds(before, TARGET, SHAPE)
    np.testing.assert_array_equal(before.run(None, inputs)[0], after.run(None, inputs)[0])


def test_made_up_weights_are_of_the_same_kind_and_run(model):
    graph, stubs = stripped(model)
    weights = RandomWeights(0).fill(stubs)
    for one in model.graph.initializer:
        if one.name not in stubs:
            continue
        own, made = onnx.numpy_helper.to_array(one), weights[one.name]
        assert (made.dtype, made.shape) == (own.dtype, own.shape)
        assert made.ctypes.data % 64 == 0
        assert abs(float(made.mean()) - float(own.mean())) < float(own.std())
        assert float(made.std()) == pytest.approx(float(own.std()), rel=0.3)
    session = start(graph, TARGET, weights)
    assert np.isfinite(session.run(None, feeds(session, TARGET, SHAPE))[0]).all()
