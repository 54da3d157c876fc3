from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from latency.kernels import STACKED, Kernel, kernels_of
from latency.onnx_graph import INPUTS, classifier_model, kernel_model
from latency.weights import random_weights, weight_shapes
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.compress.kronecker import Factors, factorized, large_matrices
from supernet.errors import NasError
from supernet.student import new_student, shape_of

SHAPE = EncoderShape(vocab_size=50, max_positions=24, type_vocab_size=2, num_labels=3)
WIDE = 0.3  # far from initialisation, so that attention is far from uniform


def state_of(model):
    """Weights drawn wide, biases too, as NumPy."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(WIDE * torch.randn(parameter.shape, generator=generator))
    return {name: value.numpy() for name, value in model.state_dict().items()}


def tokens_of(batch, sequence, seed=0):
    """Sequences of different lengths, padded, the last but for one token; mixed segments."""
    rng = np.random.default_rng(seed)
    lengths = np.maximum(np.linspace(sequence, 1, batch).astype(int), 1)
    return {
        "input_ids": rng.integers(0, SHAPE.vocab_size, (batch, sequence)),
        "attention_mask": (np.arange(sequence) < lengths[:, None]).astype(np.int64),
        "token_type_ids": rng.integers(0, 2, (batch, sequence)),
    }


def onnx_logits(model, inputs):
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(["logits"], dict(inputs))[0]


def torch_logits(model, inputs):
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        return model.eval()(**tensors).logits.numpy()


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_equals_stock_bert(num_layers, hidden_act):
    config = BertConfig(
        vocab_size=SHAPE.vocab_size,
        max_position_embeddings=SHAPE.max_positions,
        num_labels=SHAPE.num_labels,
        hidden_size=48,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        intermediate_size=96,
        hidden_act=hidden_act,
        layer_norm_eps=0.05,  # far from any default
    )
    bert = BertForSequenceClassification(config)
    architecture = Architecture.uniform(
        num_layers=num_layers, hidden_size=48, num_heads=4, intermediate_size=96
    )
    model = classifier_model(architecture, shape_of(config), state_of(bert), layer_norm_eps=0.05)
    inputs = tokens_of(3, 17)
    np.testing.assert_allclose(
        onnx_logits(model, inputs), torch_logits(bert, inputs), rtol=2e-5, atol=2e-5
    )


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 40),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 50)), min_size=1,
             max_size=3),
    st.integers(1, 3),
    st.integers(1, 24),
)  # fmt: skip
def test_equals_the_student_of_any_architecture(hidden, layers, batch, sequence):
    architecture = Architecture(hidden, tuple(Layer(n, n * d, f) for n, d, f in layers))
    student = new_student(architecture, SHAPE)
    inputs = tokens_of(batch, sequence)
    np.testing.assert_allclose(
        onnx_logits(classifier_model(architecture, SHAPE, state_of(student)), inputs),
        torch_logits(student, inputs),
        rtol=2e-5,
        atol=2e-5,
    )


def test_equals_a_student_with_compressed_layers():
    architecture = Architecture(24, (Layer(2, 16, 32, 2), Layer(3, 24, 48), Layer(4, 24, 32, 3)))
    student = new_student(architecture, SHAPE, {"layer_norm_eps": 0.05})
    inputs = tokens_of(3, 11)
    written = classifier_model(architecture, SHAPE, state_of(student), layer_norm_eps=0.05)
    found = onnx_logits(written, inputs)
    np.testing.assert_allclose(found, torch_logits(student, inputs), atol=1e-4, rtol=1e-4)
    drawn = {
        name: values.shape
        for name, values in random_weights(architecture, SHAPE, np.random.default_rng(0)).items()
    }
    assert drawn == {name: tuple(values.shape) for name, values in student.state_dict().items()}


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("terms", [1, 3])
@pytest.mark.parametrize("words", [True, False])
def test_equals_a_student_of_kronecker_products(num_layers, terms, words):
    """Both orders of the products occur: factors that are tall, and factors that are wide."""
    architecture = Architecture.uniform(
        num_layers=num_layers, hidden_size=24, num_heads=2, qkv_size=16, intermediate_size=32
    )
    student = new_student(architecture, SHAPE)
    factors = {
        name: Factors((rows // 2, 3), (2, columns // 3), terms)
        if index % 2
        else Factors((2, columns // 4), (rows // 2, 4), terms)
        for index, (name, (rows, columns)) in enumerate(large_matrices(student))
        if name.startswith("encoder") and columns % 3 == 0
    }
    if words:
        factors["embeddings.word_embeddings"] = Factors((SHAPE.vocab_size, 6), (1, 4), terms)
    student = factorized(student, factors)
    weights = state_of(student)
    inputs = tokens_of(3, 11)
    found = onnx_logits(classifier_model(architecture, SHAPE, weights), inputs)
    np.testing.assert_allclose(found, torch_logits(student, inputs), atol=1e-4, rtol=1e-4)


def test_factors_of_another_shape_are_named():
    architecture = Architecture.uniform(
        num_layers=1, hidden_size=24, num_heads=2, intermediate_size=32
    )
    weights = dict(random_weights(architecture, SHAPE, np.random.default_rng(0)))
    name = "bert.encoder.layer.0.intermediate.dense"
    weights[f"{name}.left"] = np.zeros((1, 4, 3), np.float32)
    weights[f"{name}.right"] = np.zeros((1, 4, 8), np.float32)
    with pytest.raises(NasError, match=r"of shape \(16, 24\), but .* needs \(32, 24\)"):
        classifier_model(architecture, SHAPE, weights)


def test_padding_does_not_change_logits():
    architecture = Architecture(32, (Layer(2, 24, 40), Layer(3, 48, 20)))
    model = classifier_model(architecture, SHAPE, seed=3)
    short = tokens_of(1, 9)
    padded = {name: np.pad(values, ((0, 0), (0, 7))) for name, values in short.items()}
    np.testing.assert_allclose(
        onnx_logits(model, short), onnx_logits(model, padded), rtol=1e-5, atol=1e-6
    )


def test_weights_are_named_and_shaped_as_the_students():
    architecture = Architecture(32, (Layer(2, 24, 40), Layer(3, 48, 20)))
    state = new_student(architecture, SHAPE).state_dict()
    assert weight_shapes(architecture, SHAPE) == {k: tuple(v.shape) for k, v in state.items()}


def test_seed_decides_random_weights():
    architecture = Architecture(16, (Layer(2, 8, 8),))
    first, same, other = (
        classifier_model(architecture, SHAPE, seed=s).SerializeToString() for s in (0, 0, 1)
    )
    assert first == same != other


def test_bad_weights_are_named():
    architecture = Architecture(16, (Layer(2, 8, 8),))
    weights = random_weights(architecture, SHAPE, np.random.default_rng(0))
    name = "bert.encoder.layer.0.output.dense.weight"
    with pytest.raises(NasError, match=f"{name} has shape"):
        classifier_model(architecture, SHAPE, weights | {name: np.zeros((2, 2), np.float32)})
    del weights[name]
    with pytest.raises(NasError, match=f"{name} is missing"):
        classifier_model(architecture, SHAPE, weights)


@pytest.mark.parametrize("first_token", [False, True])
@pytest.mark.parametrize("compression", [1, 2])
def test_every_kernel_runs(first_token, compression):
    architecture = Architecture(
        16, (Layer(2, 8, 24, 2), Layer(2, 8, 24), Layer(4, 8, 12), Layer(2, 8, 24, compression))
    )
    inputs = tokens_of(2, 6) | {"hidden": np.ones((2, 6, 16), np.float32)}
    for kernel in kernels_of(architecture, first_token_last_layer=first_token):
        copies = 3 if kernel.kind in STACKED else 1
        model = kernel_model(kernel, SHAPE, copies=copies)
        onnx.checker.check_model(model)
        names = {value.name for value in model.graph.input}
        assert names <= {*INPUTS, "hidden"}
        feeds = {name: values for name, values in inputs.items() if name in names}
        if kernel.kind.startswith("first_token") and kernel.kind.endswith("feed_forward"):
            feeds["hidden"] = feeds["hidden"][:, :1]
        session = onnxruntime.InferenceSession(model.SerializeToString())
        assert np.isfinite(session.run(None, feeds)[0]).all()


@pytest.mark.parametrize(
    ("hidden_act", "operator"), [("gelu", "BiasGelu"), ("gelu_new", "FastGelu"), ("relu", "Relu")]
)
@pytest.mark.parametrize("kind", ["feed_forward", "first_token_feed_forward"])
def test_kernels_have_the_shapes_activation(kind, hidden_act, operator):
    model = kernel_model(Kernel(kind, (16, 24)), replace(SHAPE, hidden_act=hidden_act))
    operators = {node.op_type for node in model.graph.node}
    assert operators & {"BiasGelu", "FastGelu", "Relu"} == {operator}


def test_what_a_model_has_once_is_not_copied():
    architecture = Architecture(16, (Layer(2, 8, 24),))
    head = next(
        k for k in kernels_of(architecture, first_token_last_layer=True) if k.kind == "head"
    )
    with pytest.raises(NasError, match="copies"):
        kernel_model(head, SHAPE, copies=2)
