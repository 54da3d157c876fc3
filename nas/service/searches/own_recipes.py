"""What a client's own space or recipe may hold: no paths, and a limited amount of work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from nas.pipeline.recipe import Recipe
from nas.service.settings import Limits
from supernet.errors import NasError

_MOST_PAIRS = 200_000
"""Of widths, heads and attention sizes: a space checks each combination."""


def check_choices(space: Mapping[str, object]) -> None:
    """Refuse a space that is too large, before its architectures are listed.

    Raises:
        NasError: it has too many choices, or a size that no encoder has.
    """
    counts = {field: _count(field, choices) for field, choices in space.items()}
    pairs = math.prod(
        counts.get(field, 1) or 1 for field in ("hidden_size", "num_heads", "qkv_size")
    )
    if pairs > _MOST_PAIRS:
        raise NasError(
            f"space: hidden_size, num_heads and qkv_size have {pairs} combinations; at most "
            f"{_MOST_PAIRS} are accepted"
        )


def _count(field: str, choices: object) -> int:
    numbers = choices.values() if isinstance(choices, Mapping) else choices
    if not isinstance(numbers, Iterable) or isinstance(numbers, str):
        return 0
    sizes = [one for one in numbers if isinstance(one, int)]
    most = 96 if field == "num_layers" else 100_000
    if any(not 0 < one <= most for one in sizes):
        raise NasError(f"space: {field}: sizes must be from 1 to {most}, not {choices!r:.200}")
    count = len(sizes)
    if isinstance(choices, Mapping) and {"min", "max", "step"} <= set(choices) and count == 3:
        count = (choices["max"] - choices["min"]) // choices["step"] + 1
    if count > 1000:
        raise NasError(f"space: {field}: at most 1000 choices are accepted, not {count}")
    return count


def check_work(recipe: Recipe, limits: Limits) -> None:
    """Refuse a recipe that asks for more than the service allows, or names a path.

    Raises:
        NasError: naming the key.
    """
    if recipe.distill.augmentation.masked_model is not None:
        raise NasError(
            "recipe: augmentation.masked_model is not accepted here: leave it out, and words are "
            "replaced by the teacher's neighbours"
        )
    trainings = [stage.training for stage in recipe.distill.stages]
    samples = [0]
    if recipe.supernet is not None:
        trainings.append(recipe.supernet.training)
        samples.append(recipe.supernet.num_random)
    texts = [recipe.distill.limit or 0]
    if recipe.general is not None:
        trainings.append(recipe.general.settings.training)
        samples.append(recipe.general.settings.num_random)
        texts.append(recipe.general.limit or 0)
    search, augmentation = recipe.search, recipe.distill.augmentation
    race, finetune = recipe.race, recipe.finetune
    raced = [steps * trainings[0].batch_size for steps in race.rungs] if race else []
    for name, value, most in (
        ("search.evaluations", search.evaluations, limits.evaluations),
        ("search.refinement", search.refinement, limits.evaluations),
        ("search.population", search.population, 1000),
        ("search.batch", search.batch, 1000),
        ("search.batches_in_flight", search.batches_in_flight, 1000),
        ("search.max_enumerated", search.max_enumerated, 5_000_000),
        (
            "epochs of a training",
            max(finetune.epochs, *(one.epochs or 0 for one in trainings)),
            limits.epochs,
        ),
        (
            "examples of a training",
            max([*raced, *((one.steps or 0) * one.batch_size for one in trainings)]),
            limits.epochs * limits.training_examples,
        ),
        (
            "batch_size of a training",
            max(finetune.batch_size, *(one.batch_size for one in trainings)),
            4096,
        ),
        ("finetune.checks", finetune.checks, 100),
        ("finetune.decay", finetune.decay, 2),
        ("race.finalists", race.finalists if race else 0, 32),
        ("race.rungs", len(race.rungs) if race else 0, 10),
        ("distill.checks", recipe.distill.checks, 100),
        ("fit_examples", recipe.fit_examples or 0, limits.training_examples),
        ("stages", len(recipe.distill.stages), 10),
        ("num_random", max(samples), 32),
        ("augmentation.copies", augmentation.copies, 50),
        ("augmentation.originals", augmentation.originals, 50),
        ("augmentation.candidates", augmentation.candidates, 1000),
        ("max_length", recipe.max_length, 512),
        ("limit", max(recipe.limit or 0, *texts), limits.training_examples),
        ("importance_examples", recipe.importance_examples, 100_000),
        ("profile_s", recipe.profile_s, 3600),
        ("candidates", recipe.candidates, 100),
        ("timing_rounds", recipe.timing_rounds, 1000),
    ):
        if value > most:
            raise NasError(f"recipe: {name} must be at most {most} here, not {value!r:.40}")
