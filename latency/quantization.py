"""Int8 models: weights quantized ahead of time, activations as they come."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import quantize_dynamic

_OPERATORS = ["Attention", "EmbedLayerNormalization", "MatMul"]
"""What has weights; a ``Gemm`` becomes a ``MatMul`` and a sum."""
_PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}
"""What tells the quantizer that a graph is optimized already; it warns of others."""


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 model of ours with products of int8 in place of float32.

    Matrices have a scale for each column, and seven bits: CPUs without VNNI add pairs of products
    in 16 bits, which those of eight would overflow. Embeddings have one scale a table. The
    products of the first token's attention that are one a head stay float32: the operator takes
    no scales for a stack of matrices.
    """
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    onnx.helper.set_model_props(prepared, _PREPARED)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        quantize_dynamic(
            prepared,
            path,
            op_types_to_quantize=_OPERATORS,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=_products_without_matrix(model),
            # Shape inference does not know the operators of com.microsoft.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return onnx.load(path)


def _products_without_matrix(model: onnx.ModelProto) -> list[str]:
    """Names of the ``MatMul`` nodes whose right operand is not one constant matrix."""
    matrices = {constant.name for constant in model.graph.initializer if len(constant.dims) == 2}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] not in matrices
    ]
