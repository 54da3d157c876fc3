"""Starts ONNX Runtime on a graph, in the same way for every measurement and every server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from latency.kernels import HIDDEN, OUTPUT
from latency.runtimes import Inputs, Model, workload
from latency.target import Target
from supernet.architecture import EncoderShape
from supernet.errors import NasError

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def start(
    graph: bytes, target: Target, weights: Mapping[str, NDArray[Any]] | None = None
) -> onnxruntime.InferenceSession:
    """A session on the target's threads or device.

    Args:
        weights: of the constants that the graph names and does not hold. They must outlive the
            session, which may read them in place.

    Raises:
        NasError: this build of ONNX Runtime does not serve the device, or cannot start it.
    """
    _check_provider(target, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A worker that spins on after its call would slow whatever else the process runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(one) for one in weights.values()]
        options.add_external_initializers(list(weights), values)
    session = onnxruntime.InferenceSession(graph, options, providers=[_PROVIDERS[target.device]])
    # A provider that is installed but does not start, for want of a library, is left out.
    _check_provider(target, session.get_providers())
    return session


def feeds(
    session: onnxruntime.InferenceSession, target: Target, shape: EncoderShape, *, seed: int = 0
) -> dict[str, NDArray[np.generic]]:
    """Random values for all that a graph reads: tokens, masks, what layers pass on."""
    inputs = workload(target, shape, seed=seed)
    found: dict[str, NDArray[np.generic]] = {}
    for argument in session.get_inputs():
        if argument.name == HIDDEN:
            tokens = 1 if argument.shape[1] == 1 else target.sequence_length
            size = (target.batch_size, tokens, argument.shape[2])
            found[HIDDEN] = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
        else:
            found[argument.name] = inputs[argument.name]
    return found


def model_of(session: onnxruntime.InferenceSession) -> Model:
    """The classifier that a session runs, as a function of its inputs to :data:`OUTPUT`."""
    names = [argument.name for argument in session.get_inputs()]

    def run(inputs: Inputs) -> NDArray[np.float32]:
        outputs = session.run([OUTPUT], {name: inputs[name] for name in names})
        return cast("NDArray[np.float32]", outputs[0])

    return run


def _check_provider(target: Target, found: list[str]) -> None:
    provider = _PROVIDERS[target.device]
    if provider not in found:
        raise NasError(
            f"target {target}: device {target.device} needs ONNX Runtime's {provider} "
            f"(package onnxruntime-gpu); found {', '.join(found)}"
        )
