"""SearchSpace: the architectures that a search may choose from. Needs NumPy only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from supernet.architecture import Architecture, Layer
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError

Choices = tuple[int, ...]
Attention = tuple[int, int]
"""(num_heads, qkv_size)"""

NATIVE = "hidden_size"
"""The value of ``qkv_size`` in a file that ties it to the hidden size, as in BERT."""


@dataclass(frozen=True)
class SearchSpace:
    """Sorted choices for each dimension of a BERT-like encoder.

    A layer's ``num_heads`` and ``qkv_size`` are a valid pair if the number of heads divides the
    size, and the quotient is an accepted ``head_size``.

    Args:
        name: for people and for file names.
        num_layers, hidden_size, num_heads, intermediate_size: the choices.
        qkv_size: the choices, or None for ``qkv_size == hidden_size``. A stock BERT can hold such
            an architecture if its layers are equal.
        head_size: the accepted sizes of one head; None accepts any.
        uniform: whether all layers of an architecture are equal.
        compression: choices of how many times smaller a layer's matrices are
            (:class:`supernet.architecture.Layer`). 1, for whole matrices, is one of them.

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
        """The space that a mapping describes, such as a YAML file under ``configs/spaces``.

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
        """The widest and deepest architecture, with the widest attention of the most heads."""
        return self._extreme(-1)

    @property
    def smallest(self) -> Architecture:
        return self._extreme(0)

    @property
    def size(self) -> int:
        """The number of architectures in the space."""
        return sum(
            self._options_a_layer(hidden) ** self._free_layers(depth)
            for depth, hidden in product(self.num_layers, self.hidden_size)
        )

    @property
    def whole(self) -> SearchSpace:
        """This space without compression, which is what a supernet is trained for."""
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
        """Whether every architecture of ``other`` is in this space.

        A space whose layers may differ is never included in one whose layers must be equal.
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
        """A random architecture; dimensions are uniform and independent, depth included."""
        hidden = int(rng.choice(self.hidden_size))
        depth = int(rng.choice(self.num_layers))
        layers = [self._sample_layer(hidden, rng) for _ in range(self._free_layers(depth))]
        return self._build(hidden, depth, layers)

    def mutate(
        self, architecture: Architecture, rng: np.random.Generator, probability: float = 0.25
    ) -> Architecture:
        """A mutant: each dimension moves one grid step with ``probability``; at least one moves.

        This is AutoTinyBERT's rule of evolution (Yin et al., ACL 2021).
        """
        hidden = architecture.hidden_size
        depth = architecture.num_layers
        if rng.random() < probability:
            hidden = _step(self.hidden_size, hidden, rng)
        if rng.random() < probability:
            depth = _step(self.num_layers, depth, rng)
        layers = list(architecture.layers[: self._free_layers(architecture.num_layers)])
        for index, layer in enumerate(layers):
            sizes = list(_sizes(layer))
            for place, choices in self._dimensions():
                if rng.random() < probability:
                    sizes[place] = _step(choices, sizes[place], rng)
            layers[index] = self._layer(hidden, *sizes)
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
        """A child: each dimension comes from either parent.

        An invalid pair of heads and qkv size becomes the nearest valid one.

        Args:
            share: probability that a dimension comes from the second parent.
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
        """The architectures one grid step away in one dimension.

        A step to an invalid pair of heads and qkv size goes on to the nearest valid one, so the
        space is connected.
        """
        depth, hidden = architecture.num_layers, architecture.hidden_size
        free = list(architecture.layers[: self._free_layers(depth)])
        found = [self._build(hidden, other, free) for other in _around(self.num_layers, depth)]
        found += [self._build(other, depth, free) for other in _around(self.hidden_size, hidden)]
        for index, layer in enumerate(free):
            own = _sizes(layer)
            same_heads = [qkv for heads, qkv in self.attentions[hidden] if heads == own[0]]
            for place, choices in self._dimensions():
                others = _around(choices, own[place])
                if place == 1:  # also the next size that is valid for these heads
                    others += _around(same_heads, own[1])
                for other in others:
                    sizes = [*own[:place], other, *own[place + 1 :]]
                    layers = [*free[:index], self._layer(hidden, *sizes), *free[index + 1 :]]
                    found.append(self._build(hidden, depth, layers))
        return [other for other in dict.fromkeys(found) if other != architecture]

    def nearest(
        self, hidden_size: int, layers: Sequence[tuple[int, int, int, int]]
    ) -> Architecture:
        """The architecture with these layers, each with the valid attention nearest to its own.

        Args:
            hidden_size: one of the choices.
            layers: of each layer, heads, qkv size, intermediate size and compression.
        """
        return Architecture(
            hidden_size, tuple(self._layer(hidden_size, *sizes) for sizes in layers)
        )

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
        fitted = [self._layer(hidden, *_sizes(layer)) for layer in layers[:depth]]
        fitted += [fitted[-1]] * (depth - len(fitted))
        return Architecture(hidden, tuple(fitted))

    def _dimensions(self) -> list[tuple[int, Choices]]:
        """The dimensions of a layer that are free: place in :func:`_sizes`, and choices."""
        every = (self.num_heads, self.qkv_size, self.intermediate_size, self.compression)
        found = [(place, choices) for place, choices in enumerate(every) if choices is not None]
        return found if len(self.compression) > 1 else found[:-1]

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
        """Architectures ``start`` to ``stop`` of one depth and hidden size, in a fixed order."""
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
    """The (num_heads, qkv_size) pairs that give an accepted head size."""
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


def _sizes(layer: Layer) -> tuple[int, int, int, int]:
    return layer.num_heads, layer.qkv_size, layer.intermediate_size, layer.compression


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
    """The valid pair closest to ``wanted``: by the ratio of heads first, then of qkv sizes."""
    if wanted in valid:
        return wanted

    def distance(pair: Attention) -> tuple[float, float]:
        return tuple(abs(math.log(a / b)) for a, b in zip(pair, wanted, strict=True))  # type: ignore[return-value]

    return min(valid, key=distance)
