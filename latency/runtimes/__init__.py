"""Runtimes, which run models: a module for each, with the functions of :class:`Runtime`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from latency.kernels import Kernel
from latency.target import Target
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError

Inputs = Mapping[str, NDArray[np.int64]]
Model = Callable[[Inputs], NDArray[np.float32]]
"""From ``input_ids``, ``attention_mask`` and ``token_type_ids``, each (batch, sequence), to
logits (batch, num_labels)."""

_KERNEL_VOCABULARY = 2048

_MODULES = {
    "onnxruntime": "onnx_runtime",
    "torch-eager": "torch_eager",
    "torch-compile": "torch_compile",
    "torch-cuda-graphs": "torch_cuda_graphs",
}


class Runtime(Protocol):
    """The interface of the modules in this package."""

    def threads(self, target: Target) -> AbstractContextManager[None]:
        """Within, the process uses the target's threads; build and measure within.

        A runtime whose models have their own threads does nothing here.
        """
        ...

    def kernel(
        self,
        kernel: Kernel,
        target: Target,
        *,
        shape: EncoderShape = EncoderShape(),
        copies: int = 1,
        seed: int = 0,
    ) -> Callable[[], object]:
        """A call that runs ``copies`` of a kernel with random weights on the target's workload.

        The device has finished when the call returns.

        Args:
            shape: of the models that contain the kernel.

        Raises:
            NasError: exported models do not support the activation, or this machine lacks the
                target's device.
        """
        ...

    def model(
        self, architecture: Architecture, target: Target, *, shape: EncoderShape, seed: int = 0
    ) -> Model:
        """A whole classifier with random weights.

        Returns:
            A function of inputs with the target's batch size and sequence length. A runtime that
            prepares models for one shape refuses other shapes with a NasError.

        Raises:
            NasError: exported models do not support the activation, or this machine lacks the
                target's device.
        """
        ...

    def load(self, path: Path, target: Target) -> Model:
        """An exported model, in the target's number type.

        Raises:
            NasError: the model does not load, or this machine lacks the target's device.
        """
        ...


def runtime_of(target: Target) -> Runtime:
    """The runtime that a target names.

    Raises:
        NasError: its package is not installed.
    """
    module = _MODULES[target.runtime]
    try:
        return cast(Runtime, import_module(f"latency.runtimes.{module}"))
    except ModuleNotFoundError as error:
        raise NasError(
            f"target {target}: runtime {target.runtime} needs the package {error.name}, "
            "which is not installed"
        ) from error


def workload(target: Target, shape: EncoderShape, *, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """Inputs of one call: random tokens, no padding, one segment.

    Raises:
        NasError: a sequence longer than the model's positions.
    """
    if target.sequence_length > shape.max_positions:
        raise NasError(
            f"target: sequence_length {target.sequence_length} exceeds the model's "
            f"{shape.max_positions} positions"
        )
    size = (target.batch_size, target.sequence_length)
    tokens = np.random.default_rng(seed).integers(0, shape.vocab_size, size, dtype=np.int64)
    return {
        "input_ids": tokens,
        "attention_mask": np.ones(size, np.int64),
        "token_type_ids": np.zeros(size, np.int64),
    }


def kernel_shape(shape: EncoderShape, target: Target) -> EncoderShape:
    """``shape`` with only the vocabulary and positions that a kernel's time depends on.

    A lookup reads a row for each token, so a small vocabulary takes as long as a large one.
    """
    return replace(
        shape,
        vocab_size=min(shape.vocab_size, _KERNEL_VOCABULARY),
        max_positions=target.sequence_length,
    )


def bound(model: Model, inputs: Inputs) -> Callable[[], NDArray[np.float32]]:
    """A model with its inputs, ready to be timed."""
    return partial(model, inputs)
