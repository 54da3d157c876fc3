"""PyTorch on CUDA, its kernels captured once and replayed as one graph."""

from __future__ import annotations

import torch
from torch import Tensor

from latency.runtimes.torch_parts import Part, TorchRuntime, of_one_shape

_WARM_UP = 3  # calls before the capture, in which libraries allocate and choose their kernels


class _Captured:
    """A part as a graph that reads its inputs, of one shape, where each call copies them to."""

    def __init__(self, part: Part, inputs: tuple[Tensor, ...], device: torch.device) -> None:
        self._part = part  # holds the weights, whose addresses are all that the graph knows
        self._inputs = tuple(values.to(device) for values in inputs)
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                part(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = part(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The part's output, which the next call overwrites."""
        for place, values in zip(self._inputs, inputs, strict=True):
            place.copy_(values)
        self._graph.replay()
        return self._output


def _captured(part: Part, inputs: tuple[Tensor, ...], device: torch.device) -> Part:
    return of_one_shape(_Captured(part, inputs, device), inputs)


_RUNTIME = TorchRuntime(_captured)

threads, kernel, model, load = _RUNTIME.threads, _RUNTIME.kernel, _RUNTIME.model, _RUNTIME.load
