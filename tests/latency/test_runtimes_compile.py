"""torch-compile on the CPU: the first compilation of a process may take 15 seconds."""

import numpy as np
import pytest
import torch

from latency.kernels import Kernel, kernels_of
from latency.runtimes import runtime_of, workload
from latency.target import Target
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.errors import NasError
from supernet.modeling_tailorbert import TailorBertForSequenceClassification
from supernet.student import new_student

SHAPE = EncoderShape(vocab_size=64, max_positions=16, num_labels=3)
NATIVE = Architecture.uniform(num_layers=1, hidden_size=16, num_heads=2, intermediate_size=24)
HETEROGENEOUS = Architecture(16, (Layer(2, 8, 24), Layer(4, 16, 12)))
COMPILED, EAGER = (
    Target(runtime=runtime, threads=1, batch_size=2, sequence_length=7)
    for runtime in ("torch-compile", "torch-eager")
)


def graphs_compiled():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.slow
def test_more_kernels_than_dynamos_limit_are_compiled_each_once():
    runtime, before = runtime_of(COMPILED), graphs_compiled()
    calls = [runtime.kernel(Kernel("call", ()), COMPILED) for _ in range(10)]
    assert graphs_compiled() == before + 10
    with runtime.threads(COMPILED):
        for call in calls * 2:
            call()
    assert graphs_compiled() == before + 10


def test_what_is_not_one_graph_is_no_silent_return_to_eager():
    from latency.runtimes.torch_compile import _compiled

    def part(tokens):
        torch._dynamo.graph_break()
        return tokens + 1

    with pytest.raises(torch._dynamo.exc.Unsupported):
        _compiled(part, (torch.ones(2),), torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [NATIVE, HETEROGENEOUS], ids=["native", "heterogeneous"])
def test_a_loaded_model_equals_the_eager_one_and_is_compiled_by_then(architecture, tmp_path):
    torch.manual_seed(0)
    new_student(architecture, SHAPE).save_pretrained(tmp_path)
    inputs = workload(COMPILED, SHAPE)
    inputs["attention_mask"][0, 3:] = 0
    expected = runtime_of(EAGER).load(tmp_path, EAGER)(inputs)
    model = runtime_of(COMPILED).load(tmp_path, COMPILED)
    before = graphs_compiled()

    class Another(TailorBertForSequenceClassification):
        """A class of which transformers keeps a record, once there is a model of it."""

    Another(new_student(HETEROGENEOUS, SHAPE).config)
    with runtime_of(COMPILED).threads(COMPILED):
        np.testing.assert_allclose(model(inputs), expected, rtol=1e-5, atol=1e-6)
    assert graphs_compiled() == before
    with pytest.raises(NasError, match=r"prepared for inputs of shape \(2, 7\), not \(1, 7\)"):
        model({name: values[:1] for name, values in inputs.items()})


@pytest.mark.slow
def test_kernels_equal_the_eager_ones():
    for kernel in kernels_of(HETEROGENEOUS, first_token_last_layer=False):
        outputs = []
        for target in (COMPILED, EAGER):
            torch.manual_seed(0)
            runtime = runtime_of(target)
            with runtime.threads(target):
                outputs.append(runtime.kernel(kernel, target, shape=SHAPE)())
        torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
