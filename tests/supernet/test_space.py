from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.architecture import Architecture
from supernet.errors import NasError
from supernet.space import SearchSpace, trimmed
from tests.supernet.conftest import tiny_space

seeds = st.integers(0, 2**32 - 1)
small_choices = st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True).map(tuple)


@st.composite
def spaces(draw: Any) -> SearchSpace:
    """Small spaces of all kinds; a single head always divides, so none is empty."""
    return SearchSpace(
        name="drawn",
        num_layers=draw(st.sampled_from([(1,), (1, 2), (2, 3), (1, 3)])),
        hidden_size=draw(small_choices),
        num_heads=(1, *draw(small_choices)),
        qkv_size=draw(st.one_of(st.none(), small_choices)),
        intermediate_size=draw(small_choices),
        uniform=draw(st.booleans()),
        compression=draw(st.sampled_from([(1,), (1, 3), (1, 2, 4)])),
    )


def is_small(space: SearchSpace) -> bool:
    return space.size < 3000


def everything(space: SearchSpace, block_size: int = 7) -> list[Architecture]:
    return [a for block in space.enumerate(block_size) for a in block]


@given(spaces().filter(is_small))
def test_enumeration_is_the_space(space: SearchSpace) -> None:
    found = everything(space)
    assert len(found) == len(set(found)) == space.size
    assert all(a in space for a in found)
    assert space.largest in found
    assert space.smallest in found


@given(spaces())
def test_the_largest_is_whole(space: SearchSpace) -> None:
    assert space.largest == space.whole.largest
    assert not space.largest.is_factored
    assert {layer.compression for layer in space.smallest.layers} == {space.compression[-1]}


@given(spaces(), seeds)
def test_sampling_mutation_and_crossing_stay_inside(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = space.sample(rng), space.sample(rng)
    assert first in space
    assert space.cross_over(first, second, rng) in space
    mutant = space.mutate(first, rng)
    assert mutant in space
    assert mutant != first or not space.neighbours(first)
    for neighbour in space.neighbours(first):
        assert neighbour in space
        assert neighbour != first


@given(spaces(), seeds)
def test_chance_is_a_function_of_the_seed(space: SearchSpace, seed: int) -> None:
    def draw() -> list[Architecture]:
        rng = np.random.default_rng(seed)
        first, second = space.sample(rng), space.sample(rng)
        return [first, second, space.mutate(first, rng), space.cross_over(first, second, rng)]

    assert draw() == draw()


@given(spaces())
def test_yaml_form_round_trip(space: SearchSpace) -> None:
    assert SearchSpace.from_dict(space.to_dict()) == space


@pytest.mark.parametrize("uniform", [True, False])
def test_every_architecture_is_reached_by_single_steps(uniform: bool) -> None:
    space = tiny_space(uniform)
    if not uniform:
        space = replace(space, intermediate_size=(16, 32), hidden_size=(16,))
    else:
        space = replace(space, compression=(1, 2, 4))
    reached, frontier = {space.smallest}, [space.smallest]
    while frontier:
        for neighbour in space.neighbours(frontier.pop()):
            if neighbour not in reached:
                reached.add(neighbour)
                frontier.append(neighbour)
    assert len(reached) == space.size


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"num_layers": []}, "num_layers"),
        ({"hidden_size": [0]}, "hidden_size"),
        ({"compression": [2, 4]}, "compression needs 1 among its choices"),
        ({"compression": [1, 0]}, "compression"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"hidden_size": {"min": 1, "max": 4}}, "min, max, step"),
        ({"hidden_size": {"min": 1, "max": 4, "step": 0}}, "min, max, step"),
        ({"uniform": "yes"}, "uniform"),
        ({"depth": [1]}, "unknown depth"),
        ({"head_size": [64]}, "head_size"),
    ],
)
def test_bad_spaces_are_refused_by_name(change: dict[str, Any], names: str) -> None:
    with pytest.raises(NasError, match=names):
        SearchSpace.from_dict(tiny_space(True).to_dict() | change)


def test_a_missing_dimension_is_named() -> None:
    data = tiny_space(True).to_dict()
    del data["qkv_size"]
    with pytest.raises(NasError, match="missing qkv_size"):
        SearchSpace.from_dict(data)


@settings(max_examples=25)
@given(spaces().filter(is_small), spaces().filter(is_small))
def test_a_space_includes_another_when_it_holds_all_of_it(one: SearchSpace, other: SearchSpace):
    other = replace(other, uniform=one.uniform)
    assert one.includes(other) == (set(everything(other)) <= set(everything(one)))
    assert one.includes(replace(one, num_layers=one.num_layers[:1]))


def test_equal_layers_do_not_include_different_ones() -> None:
    assert tiny_space(False).includes(tiny_space(True))
    assert not tiny_space(True).includes(tiny_space(False))


@pytest.mark.parametrize(
    ("native", "largest"),
    [
        (False, {"hidden_size": 16, "num_heads": 2, "qkv_size": 16}),
        (True, {"hidden_size": 32, "num_heads": 8}),  # its heads of 4 leave some widths none
        (True, {"hidden_size": 32, "num_heads": 2}),
    ],
)
def test_trimming_keeps_what_fits(native: bool, largest: dict[str, int]) -> None:
    space = tiny_space(True)
    if native:
        space = replace(space, qkv_size=None, num_heads=(2, 4), hidden_size=(16, 32))
    teacher = Architecture.uniform(num_layers=1, intermediate_size=32, **largest)
    kept = set(everything(trimmed(space, teacher)))
    assert kept == {a for a in everything(space) if a.fits_in(teacher)}
    assert kept


def test_trimming_to_nothing_is_refused() -> None:
    space = tiny_space(True)
    nothing = Architecture.uniform(num_layers=1, hidden_size=8, num_heads=2, intermediate_size=32)
    with pytest.raises(NasError, match="nothing that fits"):
        trimmed(space, nothing)
