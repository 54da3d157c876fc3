"""Architecture: the description of a BERT-like encoder that all packages share.

This module is pure Python: a small device imports it without NumPy or torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from supernet.errors import NasError
from supernet.factors import Factors, entries, low_rank


@dataclass(frozen=True, order=True, slots=True)
class Layer:
    """One transformer layer.

    Args:
        num_heads: attention heads.
        qkv_size: width of all heads' queries together, and likewise of keys and of values. It does
            not depend on the hidden size, as in AutoTinyBERT (Yin et al., ACL 2021).
        intermediate_size: width of the feed-forward network.
        compression: how many times smaller each matrix of the layer is, factored into a sum of
            columns times rows (:func:`supernet.factors.low_rank`). 1 leaves matrices whole.

    Raises:
        NasError: a size below 1, or ``qkv_size`` not a multiple of ``num_heads``.
    """

    num_heads: int
    qkv_size: int
    intermediate_size: int
    compression: int = 1

    def __post_init__(self) -> None:
        for field in ("num_heads", "qkv_size", "intermediate_size", "compression"):
            _check_positive(field, getattr(self, field))
        if self.qkv_size % self.num_heads:
            raise NasError(
                f"qkv_size {self.qkv_size} is not a multiple of num_heads {self.num_heads}"
            )

    @property
    def head_size(self) -> int:
        return self.qkv_size // self.num_heads

    def matrices(self, hidden_size: int) -> dict[str, tuple[int, int]]:
        """Rows and columns (outputs and inputs) of each matrix, by its module in the layer."""
        h, qkv, intermediate = hidden_size, self.qkv_size, self.intermediate_size
        return {
            "attention.self.query": (qkv, h),
            "attention.self.key": (qkv, h),
            "attention.self.value": (qkv, h),
            "attention.output.dense": (h, qkv),
            "intermediate.dense": (intermediate, h),
            "output.dense": (h, intermediate),
        }

    def factors(self, hidden_size: int) -> dict[str, Factors]:
        """The factors of :meth:`matrices`. Matrices too small to be factored are not included."""
        if self.compression == 1:
            return {}
        found = {
            name: low_rank(rows, columns, self.compression, False)
            for name, (rows, columns) in self.matrices(hidden_size).items()
        }
        return {name: factors for name, factors in found.items() if factors is not None}

    def weights(self, hidden_size: int) -> int:
        """Entries of all matrices or of their factors: the multiplications for one token."""
        return sum(
            entries(rows, columns, self.compression)
            for rows, columns in self.matrices(hidden_size).values()
        )

    def __str__(self) -> str:
        """``6h q192 f768``, and ``c4`` if compressed."""
        sizes = f"{self.num_heads}h q{self.qkv_size} f{self.intermediate_size}"
        return sizes if self.compression == 1 else f"{sizes} c{self.compression}"


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """The part of a model that is not searched.

    Args:
        vocab_size, max_positions, type_vocab_size: rows of the three embeddings.
        num_labels: outputs of the head.
        hidden_act: the feed-forward networks' activation, by its name in transformers.
    """

    vocab_size: int = 30522
    max_positions: int = 512
    type_vocab_size: int = 2
    num_labels: int = 2
    hidden_act: str = "gelu"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> EncoderShape:
        """The shape that a model's ``config.json`` describes; BERT's own where a key is missing."""
        labels = config.get("id2label")
        return cls(
            config.get("vocab_size", cls().vocab_size),
            config.get("max_position_embeddings", cls().max_positions),
            config.get("type_vocab_size", cls().type_vocab_size),
            len(labels) if labels else config.get("num_labels", cls().num_labels),
            config.get("hidden_act", cls().hidden_act),
        )


@dataclass(frozen=True, slots=True)
class Architecture:
    """A BERT-like encoder: its hidden size and its layers, first to last.

    Raises:
        NasError: no layers, or a hidden size below 1.
    """

    hidden_size: int
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        _check_positive("hidden_size", self.hidden_size)
        if not self.layers:
            raise NasError("an architecture needs at least one layer")

    @classmethod
    def uniform(
        cls,
        *,
        num_layers: int,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        qkv_size: int | None = None,
    ) -> Architecture:
        """Equal layers; ``qkv_size`` defaults to the hidden size, as in BERT."""
        _check_positive("num_layers", num_layers)
        layer = Layer(num_heads, hidden_size if qkv_size is None else qkv_size, intermediate_size)
        return cls(hidden_size, (layer,) * num_layers)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def is_uniform(self) -> bool:
        return len(set(self.layers)) == 1

    @property
    def is_native(self) -> bool:
        """Whether a stock ``BertModel`` can hold it: equal layers, ``qkv_size == hidden_size``."""
        whole = self.is_uniform and not self.is_factored
        return whole and self.layers[0].qkv_size == self.hidden_size

    @property
    def is_factored(self) -> bool:
        """Whether any layer is compressed."""
        return any(layer.compression > 1 for layer in self.layers)

    @property
    def whole(self) -> Architecture:
        """The same sizes with every matrix whole."""
        if not self.is_factored:
            return self
        return replace(self, layers=tuple(replace(one, compression=1) for one in self.layers))

    @property
    def factors(self) -> dict[str, Factors]:
        """The factors of all factored matrices, by the names of their modules in the encoder."""
        return {
            f"encoder.layer.{index}.{name}": factors
            for index, layer in enumerate(self.layers)
            for name, factors in layer.factors(self.hidden_size).items()
        }

    def fits_in(self, other: Architecture) -> bool:
        """Whether this is a sub-network of ``other``: no larger in any dimension.

        A compressed layer fits wherever the whole layer of its sizes fits.
        """
        return (
            self.hidden_size <= other.hidden_size
            and self.num_layers <= other.num_layers
            and all(
                mine.num_heads <= theirs.num_heads
                and mine.head_size <= theirs.head_size
                and mine.intermediate_size <= theirs.intermediate_size
                for mine, theirs in zip(self.layers, other.layers, strict=False)
            )
        )

    def parameters(self, shape: EncoderShape = EncoderShape()) -> int:
        """Number of parameters of a sequence classifier: embeddings, layers, pooler and head."""
        h = self.hidden_size
        embeddings = (shape.vocab_size + shape.max_positions + shape.type_vocab_size) * h + 2 * h
        layers = sum(
            layer.weights(h)
            + 3 * layer.qkv_size + layer.intermediate_size + 2 * h  # biases
            + 2 * 2 * h  # normalizations
            for layer in self.layers
        )  # fmt: skip
        head = h * h + h + h * shape.num_labels + shape.num_labels
        return embeddings + layers + head

    def flops(self, sequence_length: int, batch_size: int = 1) -> int:
        """Floating-point operations of the encoder's matrix products; 2 for a multiply-add."""
        per_token = sum(
            layer.weights(self.hidden_size)
            + 2 * sequence_length * layer.qkv_size  # scores and their sum over values
            for layer in self.layers
        )
        return 2 * per_token * sequence_length * batch_size

    def to_dict(self) -> dict[str, Any]:
        return {
            "hidden_size": self.hidden_size,
            "layers": [
                {
                    "num_heads": layer.num_heads,
                    "qkv_size": layer.qkv_size,
                    "intermediate_size": layer.intermediate_size,
                }
                | ({} if layer.compression == 1 else {"compression": layer.compression})
                for layer in self.layers
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Architecture:
        """The inverse of :meth:`to_dict`.

        Raises:
            NasError: a key missing, unknown, or of the wrong type.
        """
        _check_keys("architecture", data, {"hidden_size", "layers"})
        layers = data["layers"]
        if not isinstance(layers, list):
            raise NasError(f"architecture: layers must be a list, not {layers!r}")
        fields = {"num_heads", "qkv_size", "intermediate_size"}
        for layer in layers:
            _check_keys("layer", layer, fields, optional={"compression"})
        return cls(data["hidden_size"], tuple(Layer(**layer) for layer in layers))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """The architecture that a ``config.json`` describes, of a stock BERT or a TailorBERT.

        A layer whose factors do not follow the rule of :class:`Layer` is described as whole.

        Raises:
            NasError: another model type, or a key missing.
        """
        kind = config.get("model_type")
        if kind not in ("bert", "tailorbert"):
            raise NasError(f"model type {kind!r} is not accepted; accepted are bert, tailorbert")
        try:
            if kind == "tailorbert":
                whole = cls.from_dict({name: config[name] for name in ("hidden_size", "layers")})
                return whole._compressed(_checked_factors(config.get("factors") or {}))
            return cls.uniform(
                num_layers=config["num_hidden_layers"],
                hidden_size=config["hidden_size"],
                num_heads=config["num_attention_heads"],
                intermediate_size=config["intermediate_size"],
            )
        except KeyError as error:
            raise NasError(f"a model configuration of type {kind} needs {error}") from error

    def _compressed(self, factors: Mapping[str, Sequence[int]]) -> Architecture:
        """This architecture, each layer with the compression that gives exactly these factors."""

        def compressed(index: int, layer: Layer) -> Layer:
            prefix = f"encoder.layer.{index}."
            given = {
                name.removeprefix(prefix): list(sizes)
                for name, sizes in factors.items()
                if name.startswith(prefix)
            }
            for name, (rows, columns) in layer.matrices(self.hidden_size).items():
                if name not in given:
                    continue
                *shapes, rank = given[name]
                if shapes != [rows, 1, 1, columns]:
                    break
                most = rows * columns // (rows + columns)
                for ratio in range(max(2, most // (rank + 1)), most // rank + 2):
                    one = replace(layer, compression=ratio)
                    found = one.factors(self.hidden_size)
                    if {key: value.sizes for key, value in found.items()} == given:
                        return one
                break
            return layer

        layers = tuple(compressed(index, layer) for index, layer in enumerate(self.layers))
        return replace(self, layers=layers)

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """The inverse of :meth:`to_json`.

        Raises:
            NasError: not JSON, or not an architecture.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise NasError(f"architecture: not valid JSON: {error}") from error
        return cls.from_dict(data)

    def __str__(self) -> str:
        """``3x192 6h q192 f768``; every layer is written out where layers differ."""
        if self.is_uniform:
            layer = self.layers[0]
            head = f"{self.num_layers}x{self.hidden_size}"
            return f"{head} {layer}"
        layers = " ".join(f"[{layer}]" for layer in self.layers)
        return f"{self.num_layers}x{self.hidden_size} {layers}"


def layer_map(num_layers: int, of_layers: int) -> list[int]:
    """For each state of a model, the state of a deeper model at the same share of the depth.

    State 0 is the embeddings' output, and state m that of layer m, counted from 1. State m of a
    model of M layers maps to state m N / M of one of N layers, rounded (TinyBERT, Jiao et al. 2020,
    section 3; halves round to the even number). The last state maps to the last.

    Example:
        >>> layer_map(2, 6)
        [0, 3, 6]
    """
    return [round(m * of_layers / num_layers) for m in range(num_layers + 1)]


def _check_positive(field: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise NasError(f"{field} must be a whole number of at least 1, not {value!r}")


def _check_keys(
    what: str, data: Any, expected: set[str], optional: frozenset[str] | set[str] = frozenset()
) -> None:
    if not isinstance(data, Mapping):
        raise NasError(f"{what} must be a mapping with {sorted(expected)}, not {data!r}")
    if set(data) - optional != expected:
        besides = f", and may have {sorted(optional)}" if optional else ""
        raise NasError(
            f"{what} needs exactly the keys {sorted(expected)}{besides}, not {sorted(data)}"
        )


def _checked_factors(factors: Any) -> Mapping[str, Sequence[int]]:
    if not isinstance(factors, Mapping):
        raise NasError(f"factors must be a mapping by the names of modules, not {factors!r}")
    for name, sizes in factors.items():
        if not isinstance(sizes, list) or len(sizes) != 5:
            raise NasError(f"factors of {name} must be [m1, n1, m2, n2, terms], not {sizes!r}")
        for size in sizes:
            _check_positive(f"a size in the factors of {name}", size)
    return factors
