"""PyTorch, eagerly: the student's own modules."""

from __future__ import annotations

import torch
from torch import Tensor

from latency.runtimes.torch_parts import Part, TorchRuntime, moved


def _eager(part: Part, inputs: tuple[Tensor, ...], device: torch.device) -> Part:  # noqa: ARG001
    return moved(part, device)


_RUNTIME = TorchRuntime(_eager)

threads, kernel, model, load = _RUNTIME.threads, _RUNTIME.kernel, _RUNTIME.model, _RUNTIME.load
