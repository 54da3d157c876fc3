"""The student's modules in PyTorch's runtimes: the whole model, or the parts that are kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from latency.kernels import Kernel
from latency.onnx_graph import INPUTS, check_activation
from latency.runtimes import Inputs, Model, kernel_shape, workload
from latency.target import Target
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.errors import NasError
from supernet.student import new_student, shape_of

Part = Callable[..., Tensor]
"""From tensors on the target's device, the tokens of :data:`~latency.onnx_graph.INPUTS` in that
order or none at all, to one."""


@dataclass(frozen=True)
class TorchRuntime:
    """The functions of :class:`latency.runtimes.Runtime`, for one way of running PyTorch.

    Args:
        prepare: turns a part into the call that is timed. Its arguments are the part, example
            inputs on the host, and the device. It returns a function of such inputs, and has then
            done all work that is done once, such as compiling.
    """

    prepare: Callable[[Part, tuple[Tensor, ...], torch.device], Part]

    @contextmanager
    def threads(self, target: Target) -> Iterator[None]:
        """See :class:`latency.runtimes.Runtime`; the thread count is the whole process's."""
        before = torch.get_num_threads()
        torch.set_num_threads(target.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def kernel(
        self,
        kernel: Kernel,
        target: Target,
        *,
        shape: EncoderShape = EncoderShape(),
        copies: int = 1,
        seed: int = 0,
    ) -> Callable[[], object]:
        """See :class:`latency.runtimes.Runtime`.

        As within a model, the embedding's tokens come from the host, and the head's logits return
        to it. Everything else stays on the device.
        """
        check_activation(shape)
        device = device_of(target)
        shape = kernel_shape(shape, target)
        tokens = host_tokens(workload(target, shape, seed=seed))
        part = _part(kernel, target, shape, tokens, copies, seed)
        inputs = tokens if kernel.kind == "embedding" else ()
        with self.threads(target), torch.inference_mode():
            prepared = self.prepare(part, inputs, device)

        @torch.inference_mode()
        def run() -> Tensor:
            output = prepared(*inputs)
            if kernel.kind == "head":
                return output.cpu()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return output

        return run

    def model(
        self, architecture: Architecture, target: Target, *, shape: EncoderShape, seed: int = 0
    ) -> Model:
        """See :class:`latency.runtimes.Runtime`."""
        check_activation(shape)
        torch.manual_seed(seed)
        return self._model(new_student(architecture, shape), target)

    def load(self, path: Path, target: Target) -> Model:
        """The model of a Hugging Face folder.

        Raises:
            NasError: not a folder with a sequence classifier.
        """
        try:
            student = AutoModelForSequenceClassification.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise NasError(f"{path} does not hold a sequence classifier: {error}") from error
        return self._model(student, target)

    def _model(self, student: Any, target: Target) -> Model:
        """A student that takes tokens from the host and returns logits to it."""
        device = device_of(target)
        student = student.eval().to(device, dtype_of(target))
        example = workload(target, shape_of(student.config))

        def logits(*tokens: Tensor) -> Tensor:
            return student(**dict(zip(INPUTS, tokens, strict=True))).logits

        with self.threads(target), torch.inference_mode():
            prepared = self.prepare(logits, host_tokens(example), device)

        @torch.inference_mode()
        def run(inputs: Inputs) -> NDArray[np.float32]:
            output = prepared(*host_tokens(inputs)).cpu().float()
            return cast("NDArray[np.float32]", output.numpy())

        return run


def device_of(target: Target) -> torch.device:
    """The device that a target names.

    Raises:
        NasError: this machine lacks the device.
    """
    if target.device == "cuda" and not torch.cuda.is_available():
        raise NasError(
            f"target {target}: device cuda needs a CUDA device, and PyTorch finds none here"
        )
    return torch.device(target.device)


def dtype_of(target: Target) -> torch.dtype:
    """The number type that a target names."""
    return cast(torch.dtype, getattr(torch, target.dtype))


def host_tokens(inputs: Inputs) -> tuple[Tensor, ...]:
    """Inputs as tensors, in the order of :data:`~latency.onnx_graph.INPUTS`."""
    return tuple(torch.from_numpy(inputs[name]) for name in INPUTS)


def moved(part: Part, device: torch.device) -> Part:
    """``part`` for inputs on the host."""

    def run(*inputs: Tensor) -> Tensor:
        return part(*(values.to(device) for values in inputs))

    return run


def of_one_shape(part: Part, example: tuple[Tensor, ...]) -> Part:
    """``part``, which refuses inputs of another shape than ``example``'s."""
    expected = [values.shape for values in example]

    def run(*inputs: Tensor) -> Tensor:
        shapes = [values.shape for values in inputs]
        if shapes != expected:
            raise NasError(
                f"the model was prepared for inputs of shape {tuple(expected[0])}, "
                f"not {tuple(shapes[0])}"
            )
        return part(*inputs)

    return run


def _part(
    kernel: Kernel,
    target: Target,
    shape: EncoderShape,
    tokens: tuple[Tensor, ...],
    copies: int,
    seed: int,
) -> Part:
    """A kernel as a function: of tokens for the embedding, else of no input."""
    device, dtype = device_of(target), dtype_of(target)
    layer = kernel.layer
    # One more layer, unlike the others, so that the student is not stock BERT: their parts take
    # the same time, but are put together differently.
    other = Layer(1, layer.qkv_size, layer.intermediate_size + 1)
    hidden_size = 1 if kernel.kind == "call" else kernel["hidden_size"]
    architecture = Architecture(hidden_size, (layer,) * copies + (other,))
    student: Any = new_student(architecture, shape).eval().to(device, dtype)
    mask = tokens[INPUTS.index("attention_mask")].to(device)[:, None, None, :].bool()
    size = (target.batch_size, target.sequence_length, architecture.hidden_size)
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    hidden = drawn.to(device, dtype)
    layers = student.bert.encoder.layer[:copies]

    def call() -> Tensor:
        return mask.logical_not()  # a compiled or captured call needs something to do

    def embedding(*inputs: Tensor) -> Tensor:
        input_ids, _, token_type_ids = inputs
        return student.bert.embeddings(input_ids, token_type_ids)

    def attention() -> Tensor:
        output = hidden
        for block in layers:
            output = block.attention(output, mask)
        return output

    def feed_forward() -> Tensor:
        output = hidden
        for block in layers:
            output = block.output(block.intermediate(output), output)
        return output

    def head() -> Tensor:
        return student.classifier(student.bert.pooler(hidden))

    parts: dict[str, Part] = {
        part.__name__: part for part in (call, embedding, attention, feed_forward, head)
    }
    return parts[kernel.kind.removeprefix("factored_")]
