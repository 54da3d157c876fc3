"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from latency.kernels import Kernel
from latency.onnx_graph import HIDDEN, INPUTS, OUTPUT, classifier_model, kernel_model
from latency.runtimes import Inputs, Model, kernel_shape, workload
from latency.target import Target
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError

FIRST_TOKEN_LAST_LAYER = True


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
    built = kernel_model(kernel, shape, copies=copies, seed=seed)
    session = _session(built.SerializeToString(), target)
    feeds: dict[str, NDArray[np.generic]] = {}
    inputs = workload(target, shape, seed=seed)
    for argument in session.get_inputs():
        if argument.name == HIDDEN:
            tokens = 1 if argument.shape[1] == 1 else target.sequence_length
            size = (target.batch_size, tokens, kernel["hidden_size"])
            feeds[HIDDEN] = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
        else:
            feeds[argument.name] = inputs[argument.name]
    return partial(session.run, None, feeds)


def model(
    architecture: Architecture, target: Target, *, shape: EncoderShape, seed: int = 0
) -> Model:
    """See :class:`latency.runtimes.Runtime`."""
    built = classifier_model(architecture, shape, seed=seed)
    return _model(_session(built.SerializeToString(), target))


def load(path: Path, target: Target) -> Model:
    """The model of an ``.onnx`` file.

    Raises:
        NasError: no such file, not an ONNX model, or not a classifier of token ids.
    """
    if not path.is_file():
        raise NasError(f"no model file at {path}")
    try:
        session = _session(str(path), target)
    except Exception as error:  # ONNX Runtime's own exceptions share no base but this
        raise NasError(f"{path} is not a model that ONNX Runtime loads: {error}") from error
    names = {argument.name for argument in session.get_inputs()}
    if not names <= set(INPUTS) or OUTPUT not in {o.name for o in session.get_outputs()}:
        raise NasError(f"{path} does not map {', '.join(INPUTS)} to {OUTPUT}")
    return _model(session)


def _model(session: onnxruntime.InferenceSession) -> Model:
    names = [argument.name for argument in session.get_inputs()]

    def run(inputs: Inputs) -> NDArray[np.float32]:
        outputs = session.run([OUTPUT], {name: inputs[name] for name in names})
        return cast("NDArray[np.float32]", outputs[0])

    return run


def _session(source: str | bytes, target: Target) -> onnxruntime.InferenceSession:
    """A session on the target's threads; ``source`` is a path or a serialized model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A worker that spins on after its call would slow whatever else the process runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
