"""ONNX graphs without their weights, for bundles; the device makes random weights.

A latency does not depend on the values of weights, as long as they have the same distribution. So a
graph in a bundle states the type, size, mean and deviation of each constant instead of its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

_KEPT = 16  # constants with fewer elements keep their values, such as the sizes of a reshape
_POOL = 1 << 20  # random values that all weights are taken from
_ALIGNMENT = 64  # bytes, as ONNX Runtime aligns what it holds itself


class Stub(NamedTuple):
    """A constant whose values a graph does not hold.

    Args:
        dtype: NumPy's name of its type.
        size: its dimensions.
        mean, deviation: mean and standard deviation of its values.
    """

    dtype: str
    size: list[int]
    mean: float
    deviation: float


def stripped(model: onnx.ModelProto) -> tuple[bytes, dict[str, Stub]]:
    """The graph without its large constants, and their stubs by name; ``model`` is not changed.

    Constants with a single value stay: they compress to almost nothing, and the zero points of
    quantized weights must not change.
    """
    import onnx

    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    stubs = {}
    for constant in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.size < _KEPT or values.min() == values.max():
            continue
        mean, deviation = (float(f"{x:.3g}") for x in (values.mean(), values.std()))
        stubs[constant.name] = Stub(values.dtype.name, list(values.shape), mean, deviation)
        constant.CopyFrom(
            onnx.TensorProto(
                name=constant.name,
                data_type=constant.data_type,
                dims=constant.dims,
                data_location=onnx.TensorProto.EXTERNAL,
                external_data=[onnx.StringStringEntryProto(key="location", value="weights")],
            )
        )
    return graph.SerializeToString(), stubs


class RandomWeights:
    """Makes random weights for stubs, quickly: all are taken from the same random values."""

    def __init__(self, seed: int) -> None:
        self._pool = np.random.default_rng(seed).standard_normal(_POOL, dtype=np.float32)

    def fill(self, stubs: Mapping[str, Stub]) -> dict[str, NDArray[Any]]:
        """Arrays by name, of the types and sizes of the stubs."""
        return {name: self._values(stub) for name, stub in stubs.items()}

    def _values(self, stub: Stub) -> NDArray[Any]:
        dtype = np.dtype(stub.dtype)
        values = aligned(stub.size, dtype)
        normal = np.resize(self._pool, stub.size) * np.float32(stub.deviation)
        normal += np.float32(stub.mean)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            normal = np.clip(np.rint(normal), limits.min, limits.max)
        values[...] = normal
        return values


def aligned(size: list[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An uninitialized array whose first element is at a multiple of 64 bytes."""
    count = int(np.prod(size)) * dtype.itemsize
    room = np.empty(count + _ALIGNMENT, dtype=np.uint8)
    offset = -room.ctypes.data % _ALIGNMENT
    return room[offset : offset + count].view(dtype).reshape(size)
