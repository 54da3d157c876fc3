import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from latency.kernels import STACKED, kernels_of
from latency.onnx_graph import classifier_model
from latency.runtimes import runtime_of, workload
from latency.target import Target
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.errors import NasError
from supernet.student import new_student

SHAPE = EncoderShape(vocab_size=64, max_positions=16, num_labels=3)
NATIVE = Architecture.uniform(num_layers=2, hidden_size=32, num_heads=2, intermediate_size=48)
HETEROGENEOUS = Architecture(32, (Layer(2, 16, 48), Layer(4, 32, 64)))
TORCH = ("torch-eager", "torch-compile", "torch-cuda-graphs")
CPU = Target(runtime="torch-eager", threads=1, batch_size=2, sequence_length=7)

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
without_provider = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="onnxruntime-gpu is not installed",
)


def target_of(runtime, dtype="float32"):
    return Target(
        device="cuda", runtime=runtime, dtype=dtype, threads=1, batch_size=2, sequence_length=7
    )


def padded(seed=0):
    inputs = workload(CPU, SHAPE, seed=seed)
    inputs["attention_mask"][0, 3:] = 0
    return inputs


def every_kernel_runs(target):
    runtime = runtime_of(target)
    first_token = target.first_token_last_layer
    for kernel in kernels_of(HETEROGENEOUS, first_token_last_layer=first_token):
        copies = 2 if kernel.kind in STACKED else 1
        runtime.kernel(kernel, target, shape=SHAPE, copies=copies)()


@without_cuda
@pytest.mark.parametrize("runtime", TORCH)
def test_no_device_is_one_clear_line(runtime, tmp_path):
    target = target_of(runtime)
    module = runtime_of(target)
    line = "^target cuda .*: device cuda needs a CUDA device, and PyTorch finds none here$"
    with pytest.raises(NasError, match=line):
        module.model(NATIVE, target, shape=SHAPE)
    for kernel in kernels_of(NATIVE, first_token_last_layer=False):
        with pytest.raises(NasError, match=line):
            module.kernel(kernel, target, shape=SHAPE)
    new_student(NATIVE, SHAPE).save_pretrained(tmp_path)
    with pytest.raises(NasError, match=line):
        module.load(tmp_path, target)


@pytest.mark.skipif(not without_provider.args[0], reason="onnxruntime-gpu is installed")
def test_no_provider_is_one_clear_line(tmp_path):
    target = target_of("onnxruntime")
    module = runtime_of(target)
    line = r"^target cuda .*: device cuda needs ONNX Runtime's CUDAExecutionProvider .*$"
    with pytest.raises(NasError, match=line):
        module.model(NATIVE, target, shape=SHAPE)
    onnx.save(classifier_model(NATIVE, SHAPE), tmp_path / "model.onnx")
    with pytest.raises(NasError, match=line):
        module.load(tmp_path / "model.onnx", target)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-4), ("float16", 2e-2), ("bfloat16", 1e-1)]
)
@pytest.mark.parametrize("architecture", [NATIVE, HETEROGENEOUS], ids=["native", "heterogeneous"])
@pytest.mark.parametrize("runtime", TORCH)
def test_a_loaded_model_equals_the_cpus(runtime, architecture, dtype, tolerance, tmp_path):
    torch.manual_seed(0)
    new_student(architecture, SHAPE).save_pretrained(tmp_path)
    expected = runtime_of(CPU).load(tmp_path, CPU)
    target = target_of(runtime, dtype)
    model = runtime_of(target).load(tmp_path, target)
    results = []
    for seed in (0, 1):  # a graph that is replayed reads each call's own inputs
        results.append(model(padded(seed)))
        np.testing.assert_allclose(
            results[-1], expected(padded(seed)), rtol=tolerance, atol=tolerance
        )
        assert results[-1].dtype == np.float32
    assert not np.array_equal(*results)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("runtime", TORCH)
def test_every_kernel_runs_and_is_done_when_it_returns(runtime, dtype):
    every_kernel_runs(target_of(runtime, dtype))
    assert torch.cuda.current_stream().query()


@pytest.mark.gpu
@pytest.mark.parametrize("runtime", ["torch-compile", "torch-cuda-graphs"])
def test_a_model_prepared_for_one_shape_refuses_another(runtime):
    target = target_of(runtime)
    model = runtime_of(target).model(NATIVE, target, shape=SHAPE)
    with pytest.raises(NasError, match=r"prepared for inputs of shape \(2, 7\), not \(1, 7\)"):
        model({name: values[:1] for name, values in padded().items()})


@pytest.mark.gpu
@without_provider
@pytest.mark.parametrize("architecture", [NATIVE, HETEROGENEOUS], ids=["native", "heterogeneous"])
def test_onnxruntime_equals_the_cpus(architecture):
    target = target_of("onnxruntime")
    on_cpu = Target(threads=1, batch_size=2, sequence_length=7)
    logits = [
        runtime_of(where).model(architecture, where, shape=SHAPE)(padded())
        for where in (target, on_cpu)
    ]
    np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-3)
    every_kernel_runs(target)
