"""A search space in Optuna's words: named parameters with distributions, and the way back.

The parameters are ``num_layers``, ``hidden_size``, and for the layer at index i ``num_heads_i``,
``qkv_size_i``, ``intermediate_size_i`` and ``compression_i``; equal layers have index 0 alone. A
dimension with a single choice is no parameter, nor is a ``qkv_size`` tied to the hidden size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from supernet.architecture import Architecture
from supernet.errors import NasError
from supernet.space import Choices, SearchSpace

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
except ModuleNotFoundError as error:
    raise NasError(
        f"the package {error.name} is missing: pip install 'tailorbert[optuna]'"
    ) from error


def dimensions(space: SearchSpace) -> dict[str, Choices]:
    """The choices of each parameter, over the layers of the deepest architecture."""
    found: dict[str, Choices] = {}

    def last(name: str, choices: Choices) -> int:
        if len(choices) > 1:
            found[name] = choices
        return choices[-1]

    compose(space, last)
    return found


def compose(space: SearchSpace, choose: Callable[[str, Choices], int]) -> Architecture:
    """The architecture that a choice for each dimension makes, the depth first.

    Heads and qkv size are chosen apart; a pair that is not valid moves to the nearest that is, so
    several choices may make one architecture.

    Args:
        space: its layers beyond the chosen depth are not asked for.
        choose: from a dimension's name and choices to one of them.
    """
    depth = choose("num_layers", space.num_layers)
    hidden = choose("hidden_size", space.hidden_size)
    layers = [
        (
            choose(f"num_heads_{index}", space.num_heads),
            choose(f"qkv_size_{index}", space.qkv_size) if space.qkv_size else hidden,
            choose(f"intermediate_size_{index}", space.intermediate_size),
            choose(f"compression_{index}", space.compression),
        )
        for index in range(1 if space.uniform else depth)
    ]
    return space.nearest(hidden, layers * depth if space.uniform else layers)


def values(architecture: Architecture, names: Iterable[str]) -> dict[str, int]:
    """The architecture's value for each parameter; beyond its depth, those of its last layer."""
    found = {}
    for name in names:
        field, _, index = name.rpartition("_")
        if index.isdigit():
            layer = architecture.layers[min(int(index), architecture.num_layers - 1)]
            found[name] = int(getattr(layer, field))
        else:
            found[name] = int(getattr(architecture, name))
    return found


def suggested(space: SearchSpace, architecture: Architecture) -> dict[str, int]:
    """What :func:`suggest` would have asked for: the values of layers that there are."""
    layers = 1 if space.uniform else architecture.num_layers
    names = [
        name
        for name in dimensions(space)
        if not (index := name.rpartition("_")[2]).isdigit() or int(index) < layers
    ]
    return values(architecture, names)


def distribution(choices: Choices) -> BaseDistribution:
    """Whole numbers at even steps keep their order and distances; others are categories."""
    steps = {after - before for before, after in pairwise(choices)}
    if len(steps) == 1:
        return IntDistribution(choices[0], choices[-1], step=steps.pop())
    return CategoricalDistribution(choices)


def suggest(trial: optuna.Trial, space: SearchSpace) -> Architecture:
    """Have a trial suggest an architecture, for objectives and for Ray Tune's ``OptunaSearch``.

    Only the dimensions of layers that the architecture has are suggested.

    Example:
        >>> import optuna
        >>> from supernet.configs import load_space
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> trial = study.ask()
        >>> architecture = suggest(trial, load_space("tiny"))
        >>> architecture.hidden_size == trial.params["hidden_size"]
        True
    """

    def choose(name: str, choices: Choices) -> int:
        match distribution(choices) if len(choices) > 1 else None:
            case None:
                return choices[0]
            case IntDistribution(low=low, high=high, step=step):
                return trial.suggest_int(name, low, high, step=step)
            case _:
                return trial.suggest_categorical(name, choices)

    return compose(space, choose)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep Optuna's log lines and its warnings of experimental features from the terminal."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
