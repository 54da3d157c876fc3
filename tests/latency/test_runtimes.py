import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from latency.kernels import Kernel, kernels_of
from latency.onnx_graph import classifier_model
from latency.runtimes import bound, runtime_of, workload
from latency.target import Target
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.errors import NasError
from supernet.student import new_student

SHAPE = EncoderShape(vocab_size=64, max_positions=16, num_labels=3)
ARCHITECTURES = [
    Architecture.uniform(num_layers=2, hidden_size=16, num_heads=2, intermediate_size=24),
    Architecture(16, (Layer(2, 8, 24), Layer(4, 8, 12))),
    Architecture(16, (Layer(2, 8, 24, 2), Layer(4, 8, 12), Layer(2, 8, 24, 3))),
]


ON_CPU = [("onnxruntime", "float32"), ("onnxruntime", "int8"), ("torch-eager", "float32")]
"""Compiling takes its time: see test_runtimes_compile.py."""


def target_of(runtime, dtype="float32", **changes):
    sizes = {"threads": 1, "batch_size": 2, "sequence_length": 7} | changes
    return Target(runtime=runtime, dtype=dtype, **sizes)


@pytest.mark.parametrize(("runtime", "dtype"), ON_CPU)
@pytest.mark.parametrize(
    "architecture", ARCHITECTURES, ids=["native", "layer by layer", "compressed"]
)
def test_models_and_their_kernels_run(runtime, dtype, architecture):
    target = target_of(runtime, dtype)
    module = runtime_of(target)
    call = bound(module.model(architecture, target, shape=SHAPE), workload(target, SHAPE))
    assert call().shape == (2, 3)
    kernels = kernels_of(architecture, first_token_last_layer=target.first_token_last_layer)
    for kernel in kernels:
        module.kernel(kernel, target, shape=SHAPE)()


@pytest.mark.parametrize(("runtime", "dtype"), ON_CPU)
def test_models_and_kernels_have_the_shapes_activation(runtime, dtype):
    target, kernel = target_of(runtime, dtype), Kernel("feed_forward", (16, 24))
    module, inputs = runtime_of(target), workload(target, SHAPE)

    def outputs(hidden_act):
        shape = replace(SHAPE, hidden_act=hidden_act)
        torch.manual_seed(0)
        part = module.kernel(kernel, target, shape=shape)()
        whole = module.model(ARCHITECTURES[0], target, shape=shape)(inputs)
        return np.concatenate([np.ravel(part), np.ravel(whole)])

    np.testing.assert_array_equal(outputs("gelu"), outputs("gelu"))
    part, whole = np.split(outputs("gelu") != outputs("relu"), [-6])
    assert part.any()
    assert whole.any()


@pytest.mark.parametrize(("runtime", "dtype"), ON_CPU)
def test_an_activation_that_cannot_be_exported_is_refused_when_built(runtime, dtype):
    target, shape = target_of(runtime, dtype), replace(SHAPE, hidden_act="silu")
    module = runtime_of(target)
    with pytest.raises(NasError, match=r"hidden_act must be one of .*, not 'silu'"):
        module.model(ARCHITECTURES[0], target, shape=shape)
    for kernel in (Kernel("call", ()), Kernel("feed_forward", (16, 24))):
        with pytest.raises(NasError, match="hidden_act"):
            module.kernel(kernel, target, shape=shape)


@pytest.mark.parametrize(("runtime", "dtype"), ON_CPU)
def test_more_positions_than_berts_can_be_timed(runtime, dtype):
    target = target_of(runtime, dtype, batch_size=1, sequence_length=1024)
    shape, module = replace(SHAPE, max_positions=1024), runtime_of(target)
    module.kernel(Kernel("embedding", (16,)), target, shape=shape)()
    module.model(ARCHITECTURES[0], target, shape=shape)(workload(target, shape))
    with pytest.raises(NasError, match="512 positions"):
        workload(target, EncoderShape())


@pytest.mark.parametrize(("runtime", "dtype"), ON_CPU)
def test_threads_are_the_targets_within_and_the_processes_own_after(runtime, dtype):
    before = torch.get_num_threads()
    target = target_of(runtime, dtype, threads=before + 1)
    module = runtime_of(target)
    within = target.threads if runtime == "torch-eager" else before
    with module.threads(target):
        assert torch.get_num_threads() == within
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), module.threads(target):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
    module.kernel(Kernel("feed_forward", (16, 24)), target)()
    module.model(ARCHITECTURES[0], target, shape=SHAPE)(workload(target, SHAPE))
    assert torch.get_num_threads() == before


def test_runtimes_load_what_was_exported_and_agree(tmp_path):
    student = new_student(ARCHITECTURES[1], SHAPE).eval()
    student.save_pretrained(tmp_path / "model")
    weights = {name: value.numpy() for name, value in student.state_dict().items()}
    onnx.save(classifier_model(ARCHITECTURES[1], SHAPE, weights), tmp_path / "model.onnx")
    target = target_of("onnxruntime")
    inputs = workload(target, SHAPE)
    served = runtime_of(target).load(tmp_path / "model.onnx", target)(inputs)
    eager = target_of("torch-eager")
    expected = runtime_of(eager).load(tmp_path / "model", eager)(inputs)
    np.testing.assert_allclose(served, expected, rtol=1e-5, atol=1e-5)


def test_files_that_are_no_models_are_one_clear_line(tmp_path):
    target = target_of("onnxruntime")
    load = runtime_of(target).load
    with pytest.raises(NasError, match="no model file"):
        load(tmp_path / "none.onnx", target)
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x08torn")
    with pytest.raises(NasError, match="not a model"):
        load(tmp_path / "torn.onnx", target)
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:]
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "other.onnx")
    with pytest.raises(NasError, match="logits"):
        load(tmp_path / "other.onnx", target)
    eager = target_of("torch-eager")
    with pytest.raises(NasError, match="sequence classifier"):
        runtime_of(eager).load(tmp_path / "none", eager)


def test_workload_is_full_sequences_of_known_tokens():
    inputs = workload(target_of("onnxruntime"), SHAPE)
    assert {name: values.shape for name, values in inputs.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), (2, 7)
    )
    assert inputs["attention_mask"].all()
    assert inputs["input_ids"].max() < SHAPE.vocab_size


@pytest.mark.parametrize("module", ["latency.target", "latency.predictor", "latency.profiler"])
def test_measuring_needs_no_torch(module):
    code = f"import {module}, sys; print({{'torch', 'transformers', 'sklearn'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
