"""ONNX Runtime, on the CPU in float32 or int8, and on CUDA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from latency.kernels import OUTPUT, Kernel
from latency.onnx_graph import INPUTS, classifier_model, kernel_model
from latency.onnx_session import feeds, model_of, start
from latency.quantization import quantized
from latency.runtimes import Model, kernel_shape
from latency.target import Target
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError


def threads(target: Target) -> AbstractContextManager[None]:  # noqa: ARG001
    """See :class:`latency.runtimes.Runtime`; every session has threads of its own."""
    return nullcontext()


def kernel(
    kernel: Kernel,
    target: Target,
    *,
    shape: EncoderShape = EncoderShape(),
    copies: int = 1,
    seed: int = 0,
) -> Callable[[], object]:
    """See :class:`latency.runtimes.Runtime`."""
    shape = kernel_shape(shape, target)
    session = _session(kernel_model(kernel, shape, copies=copies, seed=seed), target)
    inputs = feeds(session, target, shape, seed=seed)
    if target.device == "cpu":
        return partial(session.run, None, inputs)
    return _on_device(session, inputs, kernel)


def model(
    architecture: Architecture, target: Target, *, shape: EncoderShape, seed: int = 0
) -> Model:
    """See :class:`latency.runtimes.Runtime`."""
    return model_of(_session(classifier_model(architecture, shape, seed=seed), target))


def load(path: Path, target: Target) -> Model:
    """The float32 model of an ``.onnx`` file, quantized here where the target is int8.

    Raises:
        NasError: no such file, not an ONNX model, or not a classifier of token ids.
    """
    if not path.is_file():
        raise NasError(f"no model file at {path}")
    try:
        session = _session(onnx.load(path), target)
    except NasError:
        raise
    except Exception as error:  # neither protobuf's nor ONNX Runtime's exceptions share a base
        raise NasError(f"{path} is not a model that ONNX Runtime loads: {error}") from error
    names = {argument.name for argument in session.get_inputs()}
    if not names <= set(INPUTS) or OUTPUT not in {o.name for o in session.get_outputs()}:
        raise NasError(f"{path} does not map {', '.join(INPUTS)} to {OUTPUT}")
    return model_of(session)


def _on_device(
    session: onnxruntime.InferenceSession,
    feeds: Mapping[str, NDArray[np.generic]],
    kernel: Kernel,
) -> Callable[[], object]:
    """A kernel on CUDA as within a model: tokens come from the host, and logits return to it.

    Everything else stays on the device. The call returns when the device has finished.
    """
    binding = session.io_binding()
    for name, values in feeds.items():
        if kernel.kind == "embedding":
            binding.bind_cpu_input(name, values)
        else:
            value = onnxruntime.OrtValue.ortvalue_from_numpy(values, "cuda", 0)
            binding.bind_ortvalue_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu" if kernel.kind == "head" else "cuda")

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def _session(model: onnx.ModelProto, target: Target) -> onnxruntime.InferenceSession:
    """A session in the target's number type."""
    if target.dtype == "int8":
        model = quantized(model)
    return start(model.SerializeToString(), target)
