"""SearchSpace: the architectures a search may choose from. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from supernet.architecture import Architecture, Layer
from supernet.batch import ArchitectureBatch, IntArray
from supernet.errors import NasError

Choices = tuple[int, ...]
Attention = tuple[int, int]
"""(num_heads, qkv_size)"""

NATIVE = "hidden_size"
"""The word that ties ``qkv_size`` to the hidden size, as in BERT."""


@dataclass(frozen=True)
class SearchSpace:
    """Sorted choices for each dimension of a BERT-like encoder.

    A layer's ``num_heads`` and ``qkv_size`` form a valid pair when the one divides the other and,
    where ``head_size`` is given, their quotient is among it.

    Args:
        name: for people and for file names.
        num_layers, hidden_size, num_heads, intermediate_size: the choices.
        qkv_size: the choices, or None for ``qkv_size == hidden_size`` (stock BERT holds it when
            the layers are equal too).
        head_size: the accepted sizes of one head; None accepts any.
        uniform: whether all layers of an architecture are equal.
        compression: the choices of how many times smaller a layer's matrices are than whole ones
            (:class:`supernet.architecture.Layer`); 1 is among them.

    Raises:
        NasError: an empty or non-positive choice, a hidden size without a valid attention, or no
            layers left whole.

    Example:
        >>> space = SearchSpace.from_dict({"name": "example", "num_layers": [1, 2],
        ...     "hidden_size": [64, 128], "num_heads": [2], "qkv_size": "hidden_size",
        ...     "intermediate_size": {"min": 128, "max": 512, "step": 128}, "uniform": True})
        >>> space.size
        16
        >>> str(space.largest)
        '2x128 2h q128 f512'
    """

    name: str
    num_layers: Choices
    hidden_size: Choices
    num_heads: Choices
    qkv_size: Choices | None
    intermediate_size: Choices
    head_size: Choices | None = None
    uniform: bool = True
    compression: Choices = (1,)
    attentions: Mapping[int, tuple[Attention, ...]] = field(init=False, repr=False, compare=False)
    """The valid (num_heads, qkv_size) pairs for each hidden size."""

    def __post_init__(self) -> None:
        for name in ("num_layers", "hidden_size", "num_heads", "intermediate_size", "compression"):
            object.__setattr__(self, name, _checked(self.name, name, getattr(self, name)))
        for name in ("qkv_size", "head_size"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _checked(self.name, name, getattr(self, name)))
        if 1 not in self.compression:
            raise NasError(
                f"space {self.name}: compression needs 1 among its choices, for layers left whole, "
                f"not {list(self.compression)}"
            )
        attentions = {
            hidden: _valid_attentions(hidden, self.num_heads, self.qkv_size, self.head_size)
            for hidden in self.hidden_size
        }
        for hidden, valid in attentions.items():
            if not valid:
                raise NasError(
                    f"space {self.name}: no num_heads divides a qkv_size into an accepted "
                    f"head_size at hidden_size {hidden}"
                )
        object.__setattr__(self, "attentions", attentions)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchSpace:
        """Build a space from the mapping that a YAML file under ``configs/spaces`` holds.

        Choices are a list, or ``{min, max, step}`` with both ends included.

        Raises:
            NasError: a key missing or unknown, or choices of another form.
        """
        if not isinstance(data, Mapping):
            raise NasError(f"a search space is a mapping, not {data!r}")
        required = {"name", "num_layers", "hidden_size", "num_heads", "qkv_size"}
        required |= {"intermediate_size", "uniform"}
        if missing := sorted(required - set(data)):
            raise NasError(f"space {data.get('name', '?')}: missing {', '.join(missing)}")
        if unknown := sorted(map(str, set(data) - required - {"head_size", "compression"})):
            raise NasError(
                f"space {data['name']}: unknown {', '.join(unknown)}; "
                f"accepted are {', '.join(sorted(required))}, compression and head_size"
            )
        if not isinstance(data["uniform"], bool):
            raise NasError(f"space {data['name']}: uniform must be true or false")
        name = str(data["name"])
        qkv, head = data["qkv_size"], data.get("head_size")
        return cls(
            name=name,
            num_layers=_choices(name, "num_layers", data["num_layers"]),
            hidden_size=_choices(name, "hidden_size", data["hidden_size"]),
            num_heads=_choices(name, "num_heads", data["num_heads"]),
            qkv_size=None if qkv == NATIVE else _choices(name, "qkv_size", qkv),
            intermediate_size=_choices(name, "intermediate_size", data["intermediate_size"]),
            head_size=None if head is None else _choices(name, "head_size", head),
            uniform=data["uniform"],
            compression=_choices(name, "compression", data.get("compression", [1])),
        )

    def to_dict(self) -> dict[str, Any]:
        """The inverse of :meth:`from_dict`."""
        data: dict[str, Any] = {
            "name": self.name,
            "num_layers": list(self.num_layers),
            "hidden_size": list(self.hidden_size),
            "num_heads": list(self.num_heads),
            "qkv_size": NATIVE if self.qkv_size is None else list(self.qkv_size),
            "intermediate_size": list(self.intermediate_size),
            "uniform": self.uniform,
        }
        if self.compression != (1,):
            data["compression"] = list(self.compression)
        return data if self.head_size is None else data | {"head_size": list(self.head_size)}

    # ---- extent -------------------------------------------------------------------------------

    @property
    def largest(self) -> Architecture:
        """The widest and deepest architecture; of its attentions, the widest with most heads."""
        return self._extreme(-1)

    @property
    def smallest(self) -> Architecture:
        return self._extreme(0)

    @property
    def size(self) -> int:
        """How many architectures the space holds."""
        return sum(
            self._options_a_layer(hidden) ** self._free_layers(depth)
            for depth, hidden in product(self.num_layers, self.hidden_size)
        )

    @property
    def whole(self) -> SearchSpace:
        """The same sizes, nothing compressed: what a supernet of this space is trained for."""
        return replace(self, compression=(1,))

    def __contains__(self, architecture: object) -> bool:
        return (
            isinstance(architecture, Architecture)
            and architecture.num_layers in self.num_layers
            and architecture.hidden_size in self.hidden_size
            and (architecture.is_uniform or not self.uniform)
            and all(
                (layer.num_heads, layer.qkv_size) in self.attentions[architecture.hidden_size]
                and layer.intermediate_size in self.intermediate_size
                and layer.compression in self.compression
                for layer in architecture.layers
            )
        )

    def includes(self, other: SearchSpace) -> bool:
        """Whether every architecture of ``other`` is one of this space.

        Where layers must be equal, a space in which they may differ counts as not included.
        """
        return (
            set(other.num_layers) <= set(self.num_layers)
            and set(other.intermediate_size) <= set(self.intermediate_size)
            and set(other.compression) <= set(self.compression)
            and all(
                set(pairs) <= set(self.attentions.get(hidden, ()))
                for hidden, pairs in other.attentions.items()
            )
            and (other.uniform or not self.uniform)
        )

    def enumerate(self, block_size: int = 65536) -> Iterator[ArchitectureBatch]:
        """Every architecture once, in blocks of at most ``block_size``."""
        for depth, hidden in product(self.num_layers, self.hidden_size):
            options = self._options_a_layer(hidden)
            count = options ** self._free_layers(depth)
            for start in range(0, count, block_size):
                yield self._block(depth, hidden, options, start, min(start + block_size, count))

    # ---- chance -------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Each dimension drawn uniformly and independently (so depths are equally likely)."""
        hidden = int(rng.choice(self.hidden_size))
        depth = int(rng.choice(self.num_layers))
        layers = [self._sample_layer(hidden, rng) for _ in range(self._free_layers(depth))]
        return self._build(hidden, depth, layers)

    def mutate(
        self, architecture: Architecture, rng: np.random.Generator, probability: float = 0.25
    ) -> Architecture:
        """Each dimension moves one grid step with ``probability``; at least one moves.

        (AutoTinyBERT's Evolved rule, Yin et al., ACL 2021.)
        """
        hidden = architecture.hidden_size
        depth = architecture.num_layers
        if rng.random() < probability:
            hidden = _step(self.hidden_size, hidden, rng)
        if rng.random() < probability:
            depth = _step(self.num_layers, depth, rng)
        layers = list(architecture.layers[: self._free_layers(architecture.num_layers)])
        for index, layer in enumerate(layers):
            heads, qkv, intermediate = layer.num_heads, layer.qkv_size, layer.intermediate_size
            compression = layer.compression
            if rng.random() < probability:
                heads = _step(self.num_heads, heads, rng)
            if self.qkv_size is not None and rng.random() < probability:
                qkv = _step(self.qkv_size, qkv, rng)
            if rng.random() < probability:
                intermediate = _step(self.intermediate_size, intermediate, rng)
            if len(self.compression) > 1 and rng.random() < probability:
                compression = _step(self.compression, compression, rng)
            layers[index] = self._layer(hidden, heads, qkv, intermediate, compression)
        mutant = self._build(hidden, depth, layers)
        if mutant != architecture:
            return mutant
        neighbours = self.neighbours(architecture)
        return neighbours[int(rng.integers(len(neighbours)))] if neighbours else architecture

    def cross_over(
        self,
        first: Architecture,
        second: Architecture,
        rng: np.random.Generator,
        share: float = 0.5,
    ) -> Architecture:
        """Each dimension from either parent; an invalid attention moves to the nearest valid.

        Args:
            share: probability that a dimension is the second's.
        """

        def either(one: Any, other: Any) -> Any:
            return one if rng.random() < 1 - share else other

        hidden = either(first.hidden_size, second.hidden_size)
        depth = either(first.num_layers, second.num_layers)
        layers = []
        for index in range(self._free_layers(depth)):
            mine = first.layers[min(index, first.num_layers - 1)]
            theirs = second.layers[min(index, second.num_layers - 1)]
            attention = either(mine, theirs)
            intermediate = either(mine, theirs).intermediate_size
            compression = mine.compression
            if compression != theirs.compression:
                compression = either(mine, theirs).compression
            layers.append(
                self._layer(
                    hidden, attention.num_heads, attention.qkv_size, intermediate, compression
                )
            )
        return self._build(hidden, depth, layers)

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """Those one grid step away in one dimension.

        A step that leaves an attention invalid carries it to the nearest valid one, so that the
        space stays connected.
        """
        depth, hidden = architecture.num_layers, architecture.hidden_size
        free = list(architecture.layers[: self._free_layers(depth)])
        found = [self._build(hidden, other, free) for other in _around(self.num_layers, depth)]
        found += [self._build(other, depth, free) for other in _around(self.hidden_size, hidden)]
        for index, layer in enumerate(free):
            heads, qkv, intermediate = layer.num_heads, layer.qkv_size, layer.intermediate_size
            rest = (intermediate, layer.compression)
            moved = [(other, qkv, *rest) for other in _around(self.num_heads, heads)]
            if self.qkv_size is not None:
                moved += [(heads, other, *rest) for other in _around(self.qkv_size, qkv)]
                same_heads = [q for h, q in self.attentions[hidden] if h == heads]
                moved += [(heads, other, *rest) for other in _around(same_heads, qkv)]
            for other in _around(self.intermediate_size, intermediate):
                moved.append((heads, qkv, other, layer.compression))
            for other in _around(self.compression, layer.compression):
                moved.append((heads, qkv, intermediate, other))
            for sizes in moved:
                layers = [*free[:index], self._layer(hidden, *sizes), *free[index + 1 :]]
                found.append(self._build(hidden, depth, layers))
        return [other for other in dict.fromkeys(found) if other != architecture]

    def nearest(
        self, hidden_size: int, layers: Sequence[tuple[int, int, int, int]]
    ) -> Architecture:
        """The architecture of such layers, each with the valid attention nearest to its own.

        Args:
            hidden_size: one of the choices.
            layers: number of heads, qkv and intermediate size, compression.
        """
        return Architecture(
            hidden_size, tuple(self._layer(hidden_size, *sizes) for sizes in layers)
        )

    # ---- integer codes ------------------------------------------------------------------------

    @property
    def code_names(self) -> tuple[str, ...]:
        """What each column of :meth:`encode` holds."""
        layers = range(self._free_layers(max(self.num_layers)))
        fields = ("num_heads", "qkv_size", "intermediate_size", "compression")
        return ("num_layers", "hidden_size", *(f"{f}_{i}" for i in layers for f in fields))

    def encode(self, batch: ArchitectureBatch) -> IntArray:
        """Indices into the choices, (N, D); columns of absent layers, and tied ones, hold 0.

        Raises:
            NasError: an architecture is not in the space.
        """
        for architecture in batch:
            if architecture not in self:
                raise NasError(f"architecture {architecture} is not in space {self.name}")
        batch = batch.expanded()
        codes = np.zeros((len(batch), len(self.code_names)), dtype=np.int64)
        codes[:, 0] = np.searchsorted(self.num_layers, batch.num_layers)
        codes[:, 1] = np.searchsorted(self.hidden_size, batch.hidden_size)
        for layer in range(min(self._free_layers(max(self.num_layers)), batch.qkv_size.shape[1])):
            present = batch.num_layers > layer
            for column, choices, values in (
                (2, self.num_heads, batch.num_heads),
                (3, self.qkv_size or (), batch.qkv_size),
                (4, self.intermediate_size, batch.intermediate_size),
                (5, self.compression, batch.compression),
            ):
                index = np.searchsorted(choices, values[:, layer]) if choices else 0
                codes[:, column + 4 * layer] = np.where(present, index, 0)
        return codes

    def decode(self, codes: IntArray) -> ArchitectureBatch:
        """The inverse of :meth:`encode`."""
        depth = np.take(self.num_layers, codes[:, 0])
        hidden = np.take(self.hidden_size, codes[:, 1])
        longest = max(self.num_layers)
        heads, qkv, intermediate, compression = np.zeros((4, len(codes), longest), dtype=np.int64)
        for layer in range(longest):
            column = 2 if self.uniform else 2 + 4 * layer
            present = depth > layer
            heads[:, layer] = np.where(present, np.take(self.num_heads, codes[:, column]), 0)
            width = (
                hidden if self.qkv_size is None else np.take(self.qkv_size, codes[:, column + 1])
            )
            qkv[:, layer] = np.where(present, width, 0)
            intermediate[:, layer] = np.where(
                present, np.take(self.intermediate_size, codes[:, column + 2]), 0
            )
            compression[:, layer] = np.where(
                present, np.take(self.compression, codes[:, column + 3]), 0
            )
        return ArchitectureBatch(hidden, depth, heads, qkv, intermediate, compression)

    # ---- inside -------------------------------------------------------------------------------

    def _free_layers(self, depth: int) -> int:
        return 1 if self.uniform else depth

    def _options_a_layer(self, hidden: int) -> int:
        return len(self.attentions[hidden]) * len(self.intermediate_size) * len(self.compression)

    def _extreme(self, end: int) -> Architecture:
        hidden = self.hidden_size[end]
        heads, qkv = self.attentions[hidden][end]
        compression = self.compression[-1 - end]  # the widest is whole
        layer = Layer(heads, qkv, self.intermediate_size[end], compression)
        return Architecture(hidden, (layer,) * self.num_layers[end])

    def _build(self, hidden: int, depth: int, layers: list[Layer]) -> Architecture:
        """Fit layers to a hidden size and a depth: cut at the end, or repeat the last."""
        fitted = [
            self._layer(
                hidden,
                layer.num_heads,
                layer.qkv_size,
                layer.intermediate_size,
                layer.compression,
            )
            for layer in layers[:depth]
        ]
        fitted += [fitted[-1]] * (depth - len(fitted))
        return Architecture(hidden, tuple(fitted))

    def _layer(
        self, hidden: int, heads: int, qkv: int, intermediate: int, compression: int
    ) -> Layer:
        return Layer(*_nearest(self.attentions[hidden], (heads, qkv)), intermediate, compression)

    def _sample_layer(self, hidden: int, rng: np.random.Generator) -> Layer:
        attentions = self.attentions[hidden]
        heads, qkv = attentions[int(rng.integers(len(attentions)))]
        intermediate = int(rng.choice(self.intermediate_size))
        if self.compression == (1,):
            return Layer(heads, qkv, intermediate)
        return Layer(heads, qkv, intermediate, int(rng.choice(self.compression)))

    def _block(
        self, depth: int, hidden: int, options: int, start: int, stop: int
    ) -> ArchitectureBatch:
        """Architectures ``start`` to ``stop`` of one depth and width, in mixed-radix order."""
        columns = self._free_layers(depth)  # one where all layers are equal
        layers = np.zeros((4, stop - start, columns), dtype=np.int64)
        attentions = np.array(self.attentions[hidden], dtype=np.int64)
        intermediates = np.array(self.intermediate_size, dtype=np.int64)
        compressions = np.array(self.compression, dtype=np.int64)
        rest = np.array(range(start, stop), dtype=object if stop > 2**62 else np.int64)
        for layer in range(columns):
            rest, option = rest // options, (rest % options).astype(np.int64)
            option, compression = np.divmod(option, len(compressions))
            attention, intermediate = np.divmod(option, len(intermediates))
            layers[:2, :, layer] = attentions[attention].T
            layers[2, :, layer] = intermediates[intermediate]
            layers[3, :, layer] = compressions[compression]
        count = np.ones(stop - start, dtype=np.int64)
        return ArchitectureBatch(count * hidden, count * depth, *layers)


def trimmed(space: SearchSpace, largest: Architecture) -> SearchSpace:
    """The part of ``space`` that fits in a supernet of shape ``largest``.

    Raises:
        NasError: nothing of it fits.
    """

    def at_most(choices: Choices, limit: int) -> Choices:
        return tuple(choice for choice in choices if choice <= limit)

    heads = at_most(space.num_heads, min(layer.num_heads for layer in largest.layers))
    head_limit = min(layer.head_size for layer in largest.layers)
    head_size = at_most(space.head_size or tuple(range(1, head_limit + 1)), head_limit)
    qkv = space.qkv_size and at_most(space.qkv_size, max(heads, default=0) * head_limit)
    intermediate = min(layer.intermediate_size for layer in largest.layers)
    try:
        return replace(
            space,
            num_layers=at_most(space.num_layers, largest.num_layers),
            hidden_size=tuple(
                hidden
                for hidden in at_most(space.hidden_size, largest.hidden_size)
                if _valid_attentions(hidden, heads, qkv, head_size)
            ),
            num_heads=heads,
            qkv_size=qkv,
            intermediate_size=at_most(space.intermediate_size, intermediate),
            head_size=head_size,
        )
    except NasError as error:
        raise NasError(
            f"space {space.name} holds nothing that fits in the teacher's {largest}; "
            "choose a space with smaller architectures"
        ) from error


def _valid_attentions(
    hidden: int, num_heads: Choices, qkv_size: Choices | None, head_size: Choices | None
) -> tuple[Attention, ...]:
    """The (num_heads, qkv_size) pairs that divide into an accepted head size."""
    widths = (hidden,) if qkv_size is None else qkv_size
    return tuple(
        (heads, qkv)
        for qkv, heads in product(widths, num_heads)
        if qkv % heads == 0 and (head_size is None or qkv // heads in head_size)
    )


def _checked(space: str, name: str, choices: Any) -> Choices:
    whole = all(isinstance(c, int) and not isinstance(c, bool) and c > 0 for c in choices)
    if not choices or not whole:
        raise NasError(f"space {space}: {name} needs positive whole numbers, not {choices!r}")
    return tuple(sorted(set(choices)))


def _choices(space: str, name: str, value: Any) -> Choices:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Mapping) and set(value) == {"min", "max", "step"}:
        low, high, step = value["min"], value["max"], value["step"]
        if all(isinstance(number, int) for number in (low, high, step)) and step > 0:
            return tuple(range(low, high + 1, step))
    raise NasError(
        f"space {space}: {name} must be a list of numbers or {{min, max, step}}, not {value!r}"
    )


def _around(choices: Choices | list[int], value: int) -> list[int]:
    """The choices next to ``value``, below and above."""
    below = [choice for choice in choices if choice < value]
    above = [choice for choice in choices if choice > value]
    return below[-1:] + above[:1]


def _step(choices: Choices, value: int, rng: np.random.Generator) -> int:
    around = _around(choices, value)
    return around[int(rng.integers(len(around)))] if around else value


@cache
def _nearest(valid: tuple[Attention, ...], wanted: Attention) -> Attention:
    """The valid pair closest to ``wanted``, by the ratio of heads first, then of widths."""
    if wanted in valid:
        return wanted

    def distance(pair: Attention) -> tuple[float, float]:
        return tuple(abs(math.log(a / b)) for a, b in zip(pair, wanted, strict=True))  # type: ignore[return-value]

    return min(valid, key=distance)
