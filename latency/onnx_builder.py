"""GraphBuilder: collects the nodes and constants of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
"""Domain of the operators that only ONNX Runtime implements; every build of it has them."""

_OPSETS = (("", 17), (MICROSOFT, 1))
_IR_VERSION = 8  # the one of opset 17, so that older runtimes load the file


class GraphBuilder:
    """Appends nodes in execution order; names are unique and constants are stored once."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []

    def tokens(self, name: str) -> str:
        """A graph input of int64 (batch, sequence)."""
        return self._input(name, TensorProto.INT64, ["batch", "sequence"])

    def hidden(self, name: str, tokens: int | str, hidden_size: int) -> str:
        """A graph input of float32 (batch, tokens, hidden_size)."""
        return self._input(name, TensorProto.FLOAT, ["batch", tokens, hidden_size])

    def add(
        self,
        operator: str,
        *inputs: str,
        output: str = "",
        unread_outputs: int = 0,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node; returns the name of its first output."""
        output = output or f"{operator}_{len(self._nodes)}"
        outputs = [output, *(f"{output}_{index}" for index in range(1, unread_outputs + 1))]
        node = helper.make_node(operator, inputs, outputs, output, domain=domain, **attributes)
        self._nodes.append(node)
        return output

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """A constant; the same name again means the same values."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def integers(self, *values: int) -> str:
        """A one-dimensional int64 constant."""
        return self.constant(f"integers_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def model(self, output: str, size: Sequence[int | str]) -> onnx.ModelProto:
        """The finished model, whose one output is the float32 value ``output``."""
        graph = helper.make_graph(
            self._nodes,
            "tailorbert",
            self._inputs,
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, size)],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="tailorbert"
        )

    def _input(self, name: str, kind: int, size: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, size))
        return name
