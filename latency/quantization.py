"""Int8 models: weights quantized beforehand, activations in each call or by calibration."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from latency.runtimes import Inputs

_OPERATORS = ["Attention", "EmbedLayerNormalization", "MatMul"]
"""Operators with weights. A ``Gemm`` becomes a ``MatMul`` and a sum."""
_PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}
"""Metadata that marks a graph as optimized. The quantizer warns about other graphs."""


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 model of ours with products of int8 in place of float32.

    Matrices have a scale for each column, and seven bits: CPUs without VNNI add pairs of products
    in 16 bits, which those of eight would overflow. Embeddings have one scale a table. The
    products of the first token's attention that are one a head stay float32: the operator takes
    no scales for a stack of matrices.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        quantize_dynamic(_prepared(model), path, **_options(model))
        return onnx.load(path)


def calibrated(model: onnx.ModelProto, batches: Iterable[Inputs]) -> onnx.ModelProto:
    """As :func:`quantized`, with the ranges of activations fixed beforehand, from ``batches``.

    Args:
        batches: real inputs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source, path = Path(scratch) / "float32.onnx", Path(scratch) / "model.onnx"
        onnx.save(_prepared(model), str(source))
        with _warnings_off():
            quantize_static(
                source,
                path,
                _Batches(batches),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                **_options(model),
            )
        return onnx.load(path)


@contextmanager
def _warnings_off() -> Iterator[None]:
    """The quantizer warns of the outputs that :func:`_prepared` gives no type, which none reads."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Batches, one after the other."""

    def __init__(self, batches: Iterable[Inputs]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Inputs | None:
        return next(self._batches, None)


def _options(model: onnx.ModelProto) -> dict[str, Any]:
    return {
        "op_types_to_quantize": _OPERATORS,
        "per_channel": True,
        "reduce_range": True,
        "nodes_to_exclude": _products_without_matrix(model),
        "extra_options": {"DefaultTensorType": onnx.TensorProto.FLOAT},
    }


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose values have types: inference does not know the operators of com.microsoft."""
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    onnx.helper.set_model_props(prepared, _PREPARED)
    outputs = {value.name for value in prepared.graph.output}
    for node in prepared.graph.node:
        if node.op_type not in ("Cast", "Shape", "Slice") and node.output[0] not in outputs:
            value = onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)
            prepared.graph.value_info.append(value)
    return prepared


def _products_without_matrix(model: onnx.ModelProto) -> list[str]:
    """Names of the ``MatMul`` nodes whose right operand is not one constant matrix."""
    matrices = {constant.name for constant in model.graph.initializer if len(constant.dims) == 2}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] not in matrices
    ]
