"""PyTorch, eagerly, on the CPU: the student's own modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from latency.kernels import SIZES, Kernel
from latency.onnx_graph import check_activation
from latency.runtimes import Inputs, Model, kernel_shape, workload
from latency.target import Target
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.errors import NasError
from supernet.student import new_student

FIRST_TOKEN_LAST_LAYER = False


@contextmanager
def threads(target: Target) -> Iterator[None]:
    """See :class:`latency.runtimes.Runtime`; PyTorch's thread count is the whole process's."""
    before = torch.get_num_threads()
    torch.set_num_threads(target.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def kernel(
    kernel: Kernel,
    target: Target,
    *,
    shape: EncoderShape = EncoderShape(),
    copies: int = 1,
    seed: int = 0,
) -> Callable[[], object]:
    """See :class:`latency.runtimes.Runtime`."""
    check_activation(shape)
    shape = kernel_shape(shape, target)
    sizes = dict(zip(SIZES[kernel.kind], kernel.sizes, strict=True))
    layer = Layer(*(sizes.get(n, 1) for n in ("num_heads", "qkv_size", "intermediate_size")))
    # One more layer, unlike the others, so that the student is not stock BERT: their parts take
    # the same time, but are put together differently.
    other = Layer(1, layer.qkv_size, layer.intermediate_size + 1)
    architecture = Architecture(sizes.get("hidden_size", 1), (layer,) * copies + (other,))
    student: Any = new_student(architecture, shape).eval()
    tokens = _tensors(workload(target, shape, seed=seed))
    mask = tokens["attention_mask"][:, None, None, :].bool()
    size = (target.batch_size, target.sequence_length, sizes.get("hidden_size", 1))
    hidden = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    layers = student.bert.encoder.layer[:copies]

    def embedding() -> Any:
        return student.bert.embeddings(tokens["input_ids"], tokens["token_type_ids"])

    def attention() -> Any:
        output = hidden
        for block in layers:
            output = block.attention(output, mask)
        return output

    def feed_forward() -> Any:
        output = hidden
        for block in layers:
            output = block.output(block.intermediate(output), output)
        return output

    def head() -> Any:
        return student.classifier(student.bert.pooler(hidden))

    def call() -> None:
        return None

    parts: dict[str, Callable[[], Any]] = {
        part.__name__: part for part in (call, embedding, attention, feed_forward, head)
    }
    return torch.inference_mode()(parts[kernel.kind])


def model(
    architecture: Architecture,
    target: Target,  # noqa: ARG001
    *,
    shape: EncoderShape,
    seed: int = 0,
) -> Model:
    """See :class:`latency.runtimes.Runtime`."""
    check_activation(shape)
    torch.manual_seed(seed)
    return _model(new_student(architecture, shape))


def load(path: Path, target: Target) -> Model:  # noqa: ARG001
    """The model of a Hugging Face folder.

    Raises:
        NasError: not a folder with a sequence classifier.
    """
    try:
        student = AutoModelForSequenceClassification.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise NasError(f"{path} does not hold a sequence classifier: {error}") from error
    return _model(student)


def _model(student: Any) -> Model:
    student.eval()

    @torch.inference_mode()
    def run(inputs: Inputs) -> NDArray[np.float32]:
        tensors = _tensors(inputs)
        return cast("NDArray[np.float32]", student(**tensors).logits.numpy())

    return run


def _tensors(inputs: Inputs) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in inputs.items()}
