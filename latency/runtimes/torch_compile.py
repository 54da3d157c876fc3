"""PyTorch, compiled by its inductor: ``torch.compile(model, dynamic=False)``."""

from __future__ import annotations

from types import FunctionType
from typing import cast

import torch
from torch import Tensor

from latency.runtimes.torch_parts import Part, TorchRuntime, moved, of_one_shape


def _compiled(part: Part, inputs: tuple[Tensor, ...], device: torch.device) -> Part:
    """``part`` as one graph, compiled once, for inputs of this shape.

    Where the whole is not one graph, compiling is an error rather than a silent return to eager
    execution.
    """
    # Global variables are not watched for changes: transformers adds to one of its own whenever a
    # model of a new class is built.
    compiled = torch.compile(
        _with_own_code(part),
        dynamic=False,
        fullgraph=True,
        options={"guard_filter_fn": torch.compiler.skip_guard_on_globals_unsafe},
    )
    run = of_one_shape(moved(compiled, device), inputs)
    run(*inputs)
    return run


def _with_own_code(part: Part) -> Part:
    """``part`` with a code object of its own.

    What was compiled is kept with the code object, a few graphs at the most. Parts are closures of
    one code, so that however many a process builds, none is counted against another's limit.
    """
    function = cast(FunctionType, part)
    return FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


_RUNTIME = TorchRuntime(_compiled)

threads, kernel, model, load = _RUNTIME.threads, _RUNTIME.kernel, _RUNTIME.model, _RUNTIME.load
