"""Architecture: the one description of a BERT-like encoder that all packages share.

Pure Python: a small device that only measures latencies imports this without NumPy or torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supernet.errors import NasError


@dataclass(frozen=True, order=True, slots=True)
class Layer:
    """One transformer layer.

    Args:
        num_heads: attention heads.
        qkv_size: joint width of all heads' queries (likewise keys, values); independent of the
            hidden size, as in AutoTinyBERT (Yin et al., ACL 2021).
        intermediate_size: width of the feed-forward network.

    Raises:
        NasError: a size below 1, or ``qkv_size`` not a multiple of ``num_heads``.
    """

    num_heads: int
    qkv_size: int
    intermediate_size: int

    def __post_init__(self) -> None:
        for field in ("num_heads", "qkv_size", "intermediate_size"):
            _check_positive(field, getattr(self, field))
        if self.qkv_size % self.num_heads:
            raise NasError(
                f"qkv_size {self.qkv_size} is not a multiple of num_heads {self.num_heads}"
            )

    @property
    def head_size(self) -> int:
        return self.qkv_size // self.num_heads


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """What a model has besides what is searched.

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
        """Of the content of a model's ``config.json``; what it leaves out is BERT's own."""
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
        """Whether stock ``BertModel`` can hold it: equal layers, ``qkv_size == hidden_size``."""
        return self.is_uniform and self.layers[0].qkv_size == self.hidden_size

    def fits_in(self, other: Architecture) -> bool:
        """Whether this is a sub-network of ``other``: a leading part of it in every dimension."""
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
        """Parameters of a sequence classifier: embeddings, layers, pooler and head."""
        h = self.hidden_size
        embeddings = (shape.vocab_size + shape.max_positions + shape.type_vocab_size) * h + 2 * h
        layers = sum(
            3 * (h * layer.qkv_size + layer.qkv_size)  # query, key, value
            + layer.qkv_size * h + h + 2 * h  # output and its normalization
            + h * layer.intermediate_size + layer.intermediate_size
            + layer.intermediate_size * h + h + 2 * h
            for layer in self.layers
        )  # fmt: skip
        head = h * h + h + h * shape.num_labels + shape.num_labels
        return embeddings + layers + head

    def flops(self, sequence_length: int, batch_size: int = 1) -> int:
        """Floating-point operations of the encoder's matrix products (2 a multiply-add)."""
        per_token = sum(
            4 * self.hidden_size * layer.qkv_size  # query, key, value, output
            + 2 * self.hidden_size * layer.intermediate_size
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
            _check_keys("layer", layer, fields)
        return cls(data["hidden_size"], tuple(Layer(**layer) for layer in layers))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """Of the content of a model's ``config.json``, stock BERT's or TailorBERT's.

        Raises:
            NasError: another model type, or a key missing.
        """
        kind = config.get("model_type")
        if kind not in ("bert", "tailorbert"):
            raise NasError(f"model type {kind!r} is not accepted; accepted are bert, tailorbert")
        try:
            if kind == "tailorbert":
                return cls.from_dict({name: config[name] for name in ("hidden_size", "layers")})
            return cls.uniform(
                num_layers=config["num_hidden_layers"],
                hidden_size=config["hidden_size"],
                num_heads=config["num_attention_heads"],
                intermediate_size=config["intermediate_size"],
            )
        except KeyError as error:
            raise NasError(f"a model configuration of type {kind} needs {error}") from error

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
        """``3x192 6h q192 f768``, or layer by layer where they differ."""
        if self.is_uniform:
            layer = self.layers[0]
            head = f"{self.num_layers}x{self.hidden_size}"
            return f"{head} {layer.num_heads}h q{layer.qkv_size} f{layer.intermediate_size}"
        layers = " ".join(
            f"[{layer.num_heads}h q{layer.qkv_size} f{layer.intermediate_size}]"
            for layer in self.layers
        )
        return f"{self.num_layers}x{self.hidden_size} {layers}"


def _check_positive(field: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise NasError(f"{field} must be a whole number of at least 1, not {value!r}")


def _check_keys(what: str, data: Any, expected: set[str]) -> None:
    if not isinstance(data, Mapping):
        raise NasError(f"{what} must be a mapping with {sorted(expected)}, not {data!r}")
    if set(data) != expected:
        raise NasError(f"{what} needs exactly the keys {sorted(expected)}, not {sorted(data)}")
