"""What an architecture must keep to: latency, and optional caps on parameters and memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.architecture import EncoderShape
from supernet.batch import ArchitectureBatch, IntArray
from supernet.errors import NasError

FloatArray = NDArray[np.float64]

BYTES_PER_PARAMETER = 4  # float32


def in_nine_digits(value: float) -> float:
    """The number nearest to ``value`` that nine significant digits state."""
    return float(f"{value:.9g}")


def parameters(batch: ArchitectureBatch, shape: EncoderShape = EncoderShape()) -> IntArray:
    """:meth:`Architecture.parameters` for N architectures at once, (N,)."""
    hidden = batch.hidden_size  # (N,)
    qkv, intermediate = map(batch.over_layers, (batch.qkv_size, batch.intermediate_size))  # (N,)
    embeddings = (shape.vocab_size + shape.max_positions + shape.type_vocab_size + 2) * hidden
    layers = (
        batch.over_layers(batch.weights)
        + 3 * qkv
        + intermediate
        + 6 * hidden * batch.num_layers  # biases of two outputs, two normalizations
    )
    head = hidden * (hidden + 1) + (hidden + 1) * shape.num_labels
    counts: IntArray = embeddings + layers + head
    return counts


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits, all of which hold.

    Args:
        latency_ms: the budget, on the target that the latency predictor speaks for.
        parameters: of the whole classifier, embeddings included.
        memory_bytes: of its float32 weights.
        headroom: share of the latency budget that is left free.

    Raises:
        NasError: a limit that is not a positive number.
    """

    latency_ms: float
    parameters: int | None = None
    memory_bytes: int | None = None
    headroom: float = 0.0

    def __post_init__(self) -> None:
        for name in ("latency_ms", "parameters", "memory_bytes"):
            value = getattr(self, name)
            if value is None and name != "latency_ms":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise NasError(f"{name} must be a number, not {value!r}")
            if not 0 < value < float("inf"):
                raise NasError(f"{name} must be above 0 and finite, not {value!r}")
        if not 0 <= self.headroom < 1:
            raise NasError(f"headroom must be at least 0 and below 1, not {self.headroom!r}")

    def identity(self) -> dict[str, float | int | None]:
        """What tells limits apart in a key, to nine digits.

        Latency and headroom come from arithmetic whose last digits differ between machines.
        """
        return asdict(self) | {
            "latency_ms": in_nine_digits(self.latency_ms),
            "headroom": in_nine_digits(self.headroom),
        }

    @property
    def max_latency_ms(self) -> float:
        """The budget less its headroom."""
        return self.latency_ms * (1 - self.headroom)

    @property
    def max_parameters(self) -> float:
        """The tighter of the two caps, in parameters; infinite without any."""
        by_memory = (self.memory_bytes or np.inf) / BYTES_PER_PARAMETER
        return float(min(self.parameters or np.inf, by_memory))

    def usage(self, latency_ms: FloatArray, parameters: IntArray) -> FloatArray:
        """The largest share that each architecture uses of any limit: feasible up to 1.

        Args:
            latency_ms: (N,)
            parameters: (N,)

        Returns:
            (N,), above 0.
        """
        return np.maximum(latency_ms / self.max_latency_ms, parameters / self.max_parameters)


def unmet(limits: Limits, latency_ms: FloatArray, parameters: IntArray) -> NasError:
    """The error that says which limit no architecture meets, and what would be feasible.

    Args:
        limits: met by none of the architectures.
        latency_ms: (N,), of all architectures there are.
        parameters: (N,)
    """
    budgets_ms = latency_ms / (1 - limits.headroom)  # the least that each would need
    fastest = float(budgets_ms.min())
    if fastest > limits.latency_ms:
        return NasError(
            f"latency budget {limits.latency_ms:g} ms is below the fastest sub-network: "
            f"the least feasible budget is {_rounded_up(fastest):g} ms (predicted)"
        )
    small = parameters <= limits.max_parameters
    if not small.any():
        least = int(parameters.min())
        return NasError(
            f"no sub-network has at most {limits.max_parameters:,.0f} parameters: the smallest "
            f"has {least:,} ({least * BYTES_PER_PARAMETER:,} bytes)"
        )
    return NasError(
        f"no sub-network of at most {limits.max_parameters:,.0f} parameters is within "
        f"{limits.latency_ms:g} ms: the fastest needs "
        f"{_rounded_up(float(budgets_ms[small].min())):g} ms (predicted)"
    )


def _rounded_up(value: float) -> float:
    """To three significant digits and never down, so that the advice is feasible."""
    unit = 10.0 ** (np.floor(np.log10(value)) - 2)
    return float(np.ceil(value / unit) * unit)
