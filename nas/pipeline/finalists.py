"""Who begins a race: the best expected, one of every depth, and what people design by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.models.outline import Outline
from nas.pipeline.choosing import CHOICE, read_trials
from nas.pipeline.measuring import Timer, Trial
from nas.pipeline.recipe import Race
from nas.pipeline.searching import read_search
from nas.pipeline.spreading import spread
from nas.pipeline.stage import Stage
from nas.search.constraints import FloatArray, parameters
from nas.search.designs import WORTHWHILE, designs_for
from nas.search.goals import Goal, Goals
from nas.search.pool import Pool, build_pool
from nas.search.result import SearchResult
from nas.search.score_predictor import fit_predictor
from nas.search.settings import SearchSettings
from nas.store.workspace import Artifact
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.space import SearchSpace

Worth = Callable[[Architecture, Sequence[int]], FloatArray]
"""From an architecture and intermediate sizes to what each is worth in each of its layers."""

FULL = 0.95
"""A candidate that uses less of its limit is made larger where the space allows."""

AIMS = (0.98, 0.94)
"""How much of its limit a candidate is to use that is changed for the first time, and for the next:
one that was still too slow then is on a machine where measurements differ by as much."""

EDITION = 3
"""Of whom a race begins with: raised when the same search comes to have other finalists."""


def finalists_stage(
    found: Artifact,
    goal_number: int,
    goal: Goal,
    space: SearchSpace,
    teacher: Outline,
    timer: Timer,
    settings: Race,
    searched: SearchSettings,
    worth: Worth,
) -> Stage:
    """Stage ``choice``: architectures that measure within the budget, best expected first.

    The best expected have intermediate sizes of their own in each layer. All are timed on the
    device side by side, the teacher among them. Then the intermediate sizes of those that are too
    slow, or that leave part of the budget unused, are changed by as much as the measurement tells,
    and these are timed again. The build raises NasError where none measures within the budget.

    Args:
        found: the search.
        goal_number: the number of the goal among those that the search served.
        searched: the settings of that search.
        worth: of the intermediate sizes in an architecture's layers.
    """

    def timed(architectures: Sequence[Architecture]) -> list[Trial]:
        return timer.timed_together(architectures, _predicted(goal, architectures))

    def build(folder: Path, display: Display) -> None:
        result = read_search(found.path, goal_number)
        with display.bar("Time candidates on the device") as bar:
            chosen, by_hand = candidates(result, space, goal, teacher, searched, settings.finalists)
            ours = [one for one in chosen if one not in by_hand and _spreads(one, space)]
            for one in ours[: settings.unequal]:
                chosen[chosen.index(one)] = _spread(one, space, goal, worth)
            trials = timed(chosen)
            known = {trial.architecture: trial for trial in trials}
            for number, aim in enumerate(AIMS, start=1):
                bar(number, len(AIMS) + 1)
                changed = [_resized(trial, space, timer.headroom, goal, aim) for trial in trials]
                others = [one for one in dict.fromkeys(changed) if one not in known]
                if others:
                    known |= {trial.architecture: trial for trial in timed(others)}
                trials = [_better(one, known[a]) for one, a in zip(trials, changed, strict=True)]
            bar(1, 1)
        within = [trial for trial in dict.fromkeys(trials) if trial.met]
        for trial in trials:
            if not trial.met:
                display.warn(f"{trial}: left out of the race")
        if not within:
            raise NasError(timer.unmet(trials))
        (folder / CHOICE).write_text(json.dumps([trial.to_dict() for trial in within]))

    def lines(folder: Path) -> list[str]:
        trials = read_trials(folder)
        told = [f"finalist  {trial}" for trial in trials]
        return [*told, f"finalists {len(trials)} begin a race"]

    inputs = timer.inputs | {
        "search": found.key,
        "goal": goal_number,
        "finalists": settings.finalists,
        "unequal": settings.unequal,
    }
    return Stage(name="choice", edition=EDITION, inputs=inputs, build=build, lines=lines)


def _spreads(architecture: Architecture, space: SearchSpace) -> bool:
    """Whether neurons may be spread otherwise: over several layers of whole matrices, and not where
    a space holds what stock BERT does.
    """
    is_stock = space.qkv_size is None and space.uniform
    return architecture.num_layers > 1 and not architecture.is_factored and not is_stock


def _spread(
    architecture: Architecture, space: SearchSpace, goal: Goal, worth: Worth
) -> Architecture:
    """With neurons where they are worth most, at the same usage of the limits."""
    goals = Goals((goal,))

    def usage(some: Sequence[Architecture]) -> FloatArray:
        return goals.usage(some)[0]

    sizes = space.intermediate_size
    (used,) = usage([architecture])
    return spread(architecture, sizes, worth(architecture, sizes), usage, float(used))


def candidates(
    result: SearchResult,
    space: SearchSpace,
    goal: Goal,
    teacher: Outline,
    settings: SearchSettings,
    count: int,
) -> tuple[list[Architecture], set[Architecture]]:
    """Whom to race: distinct, within the limits by prediction, best expected first; and which of
    them people design by hand.

    The best of all that were scored, the designs of :mod:`nas.search.designs`, the best scored of
    each depth, and the next best scored, but for those that leave much of the limits unused; then,
    if these are too few, what was not scored and is expected to be best, of depths that lack first.
    """
    goals = Goals((goal,))
    rng = np.random.default_rng(settings.seed)
    pool = build_pool(space, goals, max_enumerated=settings.max_enumerated, rng=rng)
    designs = designs_for(pool, 0, teacher.architecture)
    within = [one for one in result.evaluations if one.within_limits]
    within.sort(key=lambda one: -one.smoothed_score)
    usage = goals.usage([one.architecture for one in within])[0]
    most = pool.usage[0][pool.usage[0] <= 1].max()
    scored = [
        one.architecture
        for one, used in zip(within, usage, strict=True)
        if used >= WORTHWHILE * most
    ]
    depths = {one.num_layers: one for one in reversed(scored)}  # the best of each comes last
    best_of_depths = [one for one in scored if depths[one.num_layers] == one]
    chosen = list(dict.fromkeys([result.best.architecture, *designs, *best_of_depths, *scored]))

    scores = {one.architecture: one.score for one in result.evaluations}
    tuned = fit_predictor(scores, goals, settings.seed)
    predictor = fit_predictor(scores, goals, settings.seed, like=tuned)
    if len(chosen) < count:
        rows = np.flatnonzero(pool.usage[0] <= 1)
        expected = np.concatenate([predictor.expect(block) for block in pool.blocks(rows)])
        order = rows[np.argsort(-expected, kind="stable")]
        chosen += [one for one in _best_of_each_depth(pool, order) if one.num_layers not in depths]
        chosen += pool.first(order, count - len(chosen), chosen.__contains__)
    chosen = chosen[:count]
    ranks = predictor.expect(ArchitectureBatch.of(chosen))
    ranked = [chosen[row] for row in np.argsort(-ranks, kind="stable")]
    return ranked, set(designs)


def _best_of_each_depth(pool: Pool, order: NDArray[np.intp]) -> list[Architecture]:
    """The first of each depth, in their order."""
    _, firsts = np.unique(pool.sizes[order, 1], return_index=True)
    return list(pool.batch(order[np.sort(firsts)]))


def _predicted(goal: Goal, architectures: Sequence[Architecture]) -> list[float]:
    found: FloatArray = goal.predict_latency(ArchitectureBatch.of(list(architectures)))
    return [float(ms) for ms in found]


def _better(one: Trial, other: Trial) -> Trial:
    """Of an architecture and its changed form the larger within the budget, else the faster."""
    met = [trial for trial in (one, other) if trial.met]
    if met:
        return max(met, key=lambda trial: trial.measured_ms)
    return min((one, other), key=lambda trial: trial.measured_ms)


def _resized(
    trial: Trial, space: SearchSpace, headroom: float, goal: Goal, aim: float
) -> Architecture:
    """The same architecture with intermediate sizes that use the budget, within all caps."""
    limit_ms = trial.limit_ms * (1 - headroom)
    if FULL * limit_ms <= trial.measured_ms <= limit_ms:
        return trial.architecture
    sizes = np.array(space.intermediate_size)
    factors = np.unique(
        np.concatenate([sizes / one.intermediate_size for one in trial.architecture.layers])
    )
    options = list(dict.fromkeys(scaled(trial.architecture, sizes, f) for f in factors))
    shortfall = trial.measured_ms / trial.predicted_ms
    ms = shortfall * np.array(_predicted(goal, options))
    capped = parameters(ArchitectureBatch.of(options), goal.shape) <= goal.limits.max_parameters
    within = np.flatnonzero((ms <= aim * limit_ms) & capped)
    if not len(within):
        return trial.architecture
    return options[within[np.argmax(ms[within])]]


def scaled(architecture: Architecture, sizes: NDArray[np.int_], factor: float) -> Architecture:
    """With intermediate sizes so many times as large, each the nearest of ``sizes``."""

    def nearest(size: int) -> int:
        return int(sizes[np.argmin(np.abs(np.log(sizes / (size * factor))))])

    layers = (
        replace(layer, intermediate_size=nearest(layer.intermediate_size))
        for layer in architecture.layers
    )
    return replace(architecture, layers=tuple(layers))
