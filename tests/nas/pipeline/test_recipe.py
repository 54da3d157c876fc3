"""What a recipe means where it leaves keys out."""

from __future__ import annotations

from typing import Any

import pytest

from nas.pipeline.recipe import load_recipe, parse_recipe
from supernet.configs import config_names
from supernet.errors import NasError


def test_an_empty_recipe_fits_and_trains_no_supernet() -> None:
    recipe = parse_recipe({}, "empty")
    assert (recipe.supernet, recipe.scores, recipe.distill.start) == (None, "fitted", "fitted")


@pytest.mark.parametrize(
    ("given", "scores"),
    [
        ({"supernet": {}}, "inherited"),
        ({"supernet": {}, "scores": "fitted"}, "fitted"),
        ({"supernet": {}, "scores": "repaired"}, "repaired"),
        ({"supernet": None}, "fitted"),
    ],
)
def test_a_supernet_that_is_trained_scores_its_sub_networks(
    given: dict[str, Any], scores: str
) -> None:
    assert parse_recipe(given, "given").scores == scores


@pytest.mark.parametrize("scores", ["inherited", "repaired"])
def test_scores_by_a_supernet_need_one(scores: str) -> None:
    with pytest.raises(NasError, match="without a supernet, scores must be fitted"):
        parse_recipe({"scores": scores}, "given")


def test_autotinybert_trains_a_supernet_and_scores_it_as_it_is() -> None:
    recipe = load_recipe("autotinybert")
    assert recipe.supernet is not None
    assert (recipe.scores, recipe.distill.start) == ("inherited", "own")


def test_a_recipe_survives_being_written() -> None:
    for name in config_names("recipes"):
        recipe = load_recipe(name)
        assert parse_recipe(recipe.to_dict(), name) == recipe


def test_fidelity_which_once_was_a_setting_is_refused_but_for_its_default() -> None:
    assert parse_recipe({"search": {"fidelity": 1.0, "batch": 2}}, "old").search.batch == 2
    with pytest.raises(NasError, match=r"^old: unknown key search.fidelity$"):
        parse_recipe({"search": {"fidelity": 0.25}}, "old")


@pytest.mark.parametrize("name", ["autotinybert", "finetune", "kd", "kronecker", "mixkd"])
def test_published_methods_begin_as_published(name: str) -> None:
    """None of them fits a student to its teacher's activations."""
    assert load_recipe(name).distill.start == "own"
