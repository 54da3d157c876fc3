"""Whom a race begins with, and that they use their budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latency.device import ThisMachine
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.target import Budget, Latency
from nas.models.outline import Outline
from nas.pipeline.choosing import read_trials
from nas.pipeline.finalists import AIMS, candidates, finalists_stage, scaled
from nas.pipeline.measuring import Timer
from nas.pipeline.recipe import load_recipe
from nas.pipeline.request import Aim
from nas.pipeline.stage import Workbench
from nas.search.constraints import Limits
from nas.search.goals import Goal
from nas.search.result import Evaluation, SearchResult
from nas.store.workspace import Artifact, Workspace
from nas.terminal.progress import Display
from supernet.architecture import Architecture, Layer
from supernet.batch import ArchitectureBatch
from supernet.configs import load_space
from supernet.errors import NasError
from supernet.space import SearchSpace
from tests.latency.conftest import made_profile

TEACHER = Architecture.uniform(num_layers=6, hidden_size=384, num_heads=12, intermediate_size=1536)
SPACE = load_space("minilm-native")
HEADROOM = load_recipe("full").headroom
FASTER = "6ms"
"""A sixth of what the teacher takes on the made-up device."""


@dataclass(frozen=True)
class Clocked(ThisMachine):
    """A machine that takes so many times what its profile lets expect."""

    found: Profile
    times: float = 1.0

    @cached_property
    def _predictor(self) -> LatencyPredictor:
        return LatencyPredictor(self.found).fit()

    def profile(self, *_: Any, **__: Any) -> Profile:
        return self.found

    def time(self, models: Sequence[Any], *_: Any, **__: Any) -> list[Latency]:
        predicted = self._predictor.predict(list(models))
        return [
            Latency(ms, ms, ms, ms, (ms,)) for ms in (self.times * float(one) for one in predicted)
        ]


class Found:
    """A search that has scored some of the space: the more operations the better."""

    def __init__(
        self,
        folder: Path,
        times: float,
        budget: str = "6x",
        space: SearchSpace = SPACE,
        cap: int | None = None,
    ) -> None:
        profile = made_profile()
        recipe = load_recipe("full")
        assert recipe.race is not None
        self.space, self.race, self.settings = space, recipe.race, recipe.search
        self.bench = Workbench(Workspace(folder), Display())
        self.teacher = Outline(TEACHER, profile.shape)
        aim = Aim(
            target=profile.target, budget=Budget.parse(budget), device=Clocked(profile, times)
        )
        self.timer = Timer(aim, self.teacher, recipe.timing_rounds, recipe.headroom)
        predictor = LatencyPredictor(profile).fit()
        teacher_ms = float(predictor.predict([TEACHER])[0])
        limits = Limits(aim.budget.limit_ms(teacher_ms), cap, headroom=HEADROOM)
        self.goal = Goal(predictor.predict, limits, profile.shape)
        rng = np.random.default_rng(0)
        some = list(dict.fromkeys(space.sample(rng) for _ in range(40)))
        ms = predictor.predict(some)
        evaluations = tuple(
            Evaluation(one, float(at), score, score, bool(at <= limits.max_latency_ms) and small)
            for one, at in zip(some, ms, strict=True)
            for small in [one.parameters(profile.shape) <= limits.max_parameters]
            for score in [1 - 1e5 / one.flops(64)]
        )
        best = max((e for e in evaluations if e.within_limits), key=lambda e: e.score)
        self.result = SearchResult(limits, best, (), evaluations, 40, 40)
        (folder / "search").mkdir(parents=True)
        (folder / "search" / "search.json").write_text(json.dumps([self.result.to_dict()]))
        self.search = Artifact("search", "key", folder / "search", 0.0, False)

    def finalists(self) -> list[Any]:
        stage = finalists_stage(
            self.search, 0, self.goal, self.space, self.teacher, self.timer, self.race,
            self.settings, worth_by_depth,
        )  # fmt: skip
        return read_trials(self.bench.make(stage).path)

    def candidates(self, count: int) -> tuple[list[Architecture], set[Architecture]]:
        return candidates(self.result, self.space, self.goal, self.teacher, self.settings, count)


def worth_by_depth(architecture: Architecture, sizes: Sequence[int]) -> NDArray[np.float64]:
    """The deeper a layer lies, the more its neurons are worth."""
    return np.outer(np.arange(1, architecture.num_layers + 1), np.log(sizes))


def test_every_depth_and_every_design_takes_part(tmp_path: Path) -> None:
    found = Found(tmp_path, 1.0)
    chosen, designs = found.candidates(12)
    assert designs < set(chosen)
    assert len(chosen) == len(set(chosen)) == 12
    assert {one.num_layers for one in chosen} == {1, 2, 3, 4, 5, 6}
    assert found.result.best.architecture in chosen
    one_layer = Architecture(384, TEACHER.layers[:1])
    assert one_layer not in designs, "it leaves more than half of the budget unused"
    assert len(designs) == 2, "thin, and TinyBERT's"
    limit_ms = found.goal.limits.max_latency_ms
    ms = np.asarray(found.goal.predict_latency(ArchitectureBatch.of(chosen)))
    assert (ms <= limit_ms).all()
    scored = [one for one in found.result.evaluations if 0.5 * limit_ms < one.latency_ms < limit_ms]
    for depth in {one.architecture.num_layers for one in scored}:
        alike = [one for one in scored if one.architecture.num_layers == depth]
        assert max(alike, key=lambda one: one.smoothed_score).architecture in chosen


def test_what_was_scored_is_preferred_to_what_is_only_expected_to_be_good(tmp_path: Path) -> None:
    found = Found(tmp_path, 1.0)
    limit_ms = found.goal.limits.max_latency_ms
    within = [one for one in found.result.evaluations if one.within_limits]
    scored = {one.architecture for one in within if one.latency_ms > 0.5 * limit_ms}
    few, designs = found.candidates(len(scored))
    assert set(few) <= scored | designs
    more, _ = found.candidates(len(scored) + 8)
    assert scored < set(more)
    assert not {one.architecture for one in within if one.latency_ms < 0.4 * limit_ms} & set(more)


@pytest.mark.parametrize("times", [1.0, 1.1, 0.8])
def test_finalists_use_their_budget_whatever_the_prediction_is_off(
    tmp_path: Path, times: float
) -> None:
    """In milliseconds, for a speed-up is off with its teacher."""
    budget = f"{float(Found(tmp_path / 'a', 1.0).goal.limits.latency_ms):.4f}ms"
    trials = Found(tmp_path / "b", times, budget).finalists()
    assert len(trials) >= 6
    used = np.array([trial.measured_ms / trial.limit_ms for trial in trials])
    assert (used <= 1 - HEADROOM).all()
    largest = max(SPACE.intermediate_size)
    for share, trial in zip(used, trials, strict=True):
        at_its_end = trial.architecture.layers[0].intermediate_size == largest
        assert at_its_end or share > 0.85 * AIMS[0] * (1 - HEADROOM), "the grid's steps are so wide"


@pytest.mark.parametrize("name", ["minilm", "minilm-native"])
def test_the_best_expected_have_layers_of_their_own_and_designs_have_not(
    tmp_path: Path, name: str
) -> None:
    space = load_space(name)
    found = Found(tmp_path, 1.0, space=space)
    _, designs = found.candidates(found.race.finalists)
    finalists = [trial.architecture for trial in found.finalists()]
    unequal = [one for one in finalists if len(set(one.layers)) > 1]
    if name == "minilm-native":
        assert not unequal, "what stock BERT cannot hold"
        return
    assert 1 <= len(unequal) <= found.race.unequal
    for one in unequal:
        first, *_, last = one.layers
        assert last.intermediate_size > first.intermediate_size
        assert {layer.intermediate_size for layer in one.layers} <= set(space.intermediate_size)
    shapes = {(one.hidden_size, one.num_layers, one.layers[0].qkv_size) for one in finalists}
    assert {(one.hidden_size, one.num_layers, one.layers[0].qkv_size) for one in designs} <= shapes


def test_what_was_not_scored_is_expected_to_be_among_the_best(tmp_path: Path) -> None:
    """The score grows with the operations, so those that are added have many."""
    found = Found(tmp_path, 1.0)
    scored = {one.architecture for one in found.result.evaluations}
    chosen, designs = found.candidates(30)
    added = [one for one in chosen if one not in scored | designs]
    assert len(added) > 5
    rng = np.random.default_rng(1)
    some = [SPACE.sample(rng) for _ in range(300)]
    ms = found.goal.predict_latency(ArchitectureBatch.of(some))
    limit_ms = found.goal.limits.max_latency_ms
    flops = [one.flops(64) for one, at in zip(some, ms, strict=True) if at <= limit_ms]
    assert np.median([one.flops(64) for one in added]) > np.quantile(flops, 0.75)


def test_finalists_that_are_made_larger_keep_to_the_cap(tmp_path: Path) -> None:
    """On a device that is faster than predicted the budget alone lets them grow."""
    free = Found(tmp_path / "a", 0.7, FASTER)
    sizes = [one.architecture.parameters(free.teacher.shape) for one in free.finalists()]
    cap = int(np.median(sizes))
    assert max(sizes) > cap
    capped = Found(tmp_path / "b", 0.7, FASTER, cap=cap)
    before, _ = capped.candidates(capped.race.finalists)
    after = [trial.architecture for trial in capped.finalists()]
    assert all(one.parameters(capped.teacher.shape) <= cap for one in after)
    assert set(after) - set(before), "some are made larger"


def test_where_nothing_is_fast_enough_it_says_so(tmp_path: Path) -> None:
    found = Found(tmp_path / "a", 1.0)
    budget = f"{float(found.goal.limits.latency_ms):.4f}ms"
    with pytest.raises(NasError, match="no scored architecture measures within"):
        Found(tmp_path / "b", 1000.0, budget).finalists()


def test_layers_are_scaled_together() -> None:
    sizes = np.array([128, 256, 512, 1024])
    mixed = Architecture(64, (Layer(2, 64, 128), Layer(2, 64, 512)))
    found = scaled(mixed, sizes, 2.0)
    assert [layer.intermediate_size for layer in found.layers] == [256, 1024]
    assert scaled(mixed, sizes, 100.0).layers[0].intermediate_size == 1024
