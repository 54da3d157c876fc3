"""A search answers with the best within limits, the same after a kill, and cheaply again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nas.search.constraints import FloatArray, Limits
from nas.search.evaluator import Failed, Outcome, Recorded
from nas.search.front import non_dominated
from nas.search.goals import Goal
from nas.search.progress import SearchProgress
from nas.search.registry import SEARCHERS
from nas.search.result import Evaluation, SearchResult, best_of
from nas.search.score_cache import ScoreCache
from nas.search.search import run_search, run_searches
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.space import SearchSpace

ROOT = Path(__file__).parents[3]
TINY = SearchSpace(
    name="tiny",
    num_layers=(1, 2),
    hidden_size=(16, 32),
    num_heads=(1, 2, 4),
    qkv_size=(8, 16, 32),
    intermediate_size=(16, 32, 64),
    head_size=(4, 8),
)
SPACE = SearchSpace(
    name="uniform",
    num_layers=(1, 2, 3, 4),
    hidden_size=tuple(range(32, 257, 32)),
    num_heads=(1, 2, 4),
    qkv_size=tuple(range(32, 257, 32)),
    intermediate_size=tuple(range(64, 513, 64)),
)
LAYERED = SearchSpace.from_dict(
    SPACE.to_dict() | {"name": "layered", "uniform": False, "num_layers": [1, 2, 3, 4, 5, 6]}
)
QUICK = SearchSettings(evaluations=32, population=16, tournament=4, seed=5)


def latency(batch: ArchitectureBatch) -> FloatArray:
    width = batch.over_layers(4 * batch.qkv_size + 2 * batch.intermediate_size)
    return 0.1 + 0.05 * batch.num_layers + 1e-6 * batch.hidden_size * width


def true_score(architectures: Sequence[Architecture]) -> FloatArray:
    batch = ArchitectureBatch.of(list(architectures))
    depth = batch.num_layers
    qkv, intermediate = batch.qkv_size.sum(1) / depth, batch.intermediate_size.sum(1) / depth
    return 1 - 2 / batch.hidden_size - 0.1 / depth - 1 / qkv - 2 / intermediate


class Scoring:
    """Scores as a validation set would: with noise that belongs to the architecture.

    Args:
        workers: how many are at it at a time; which of them ends first is chance.
        broken: architectures of this depth cannot be scored.
    """

    def __init__(
        self,
        noise: float = 0.0,
        stop_after: int = 10**9,
        workers: int = 1,
        broken: int | None = None,
    ) -> None:
        self.asked: list[Architecture] = []
        self.noise, self.stop_after, self.broken = noise, stop_after, broken
        self._waiting: deque[Architecture] = deque()
        self._workers, self._rng = workers, np.random.default_rng()

    def submit(self, architectures: Sequence[Architecture]) -> None:
        self._waiting.extend(architectures)

    def next(self) -> tuple[Architecture, Outcome]:
        place = int(self._rng.integers(min(self._workers, len(self._waiting))))
        architecture = self._waiting[place]
        del self._waiting[place]
        if len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(architecture)
        if architecture.num_layers == self.broken:
            return architecture, Failed("RuntimeError: out of memory")
        chance = np.random.default_rng(list(architecture.to_json().encode())).normal()
        return architecture, float(true_score([architecture])[0] + self.noise * chance)


def search(
    folder: Path,
    evaluate: Scoring,
    budget: float = 0.4,
    space: SearchSpace = SPACE,
    settings: SearchSettings = QUICK,
    **caps: int,
) -> SearchResult:
    cache = ScoreCache(folder / "scores.jsonl", supernet="s", data="d")
    return run_search(space, latency, evaluate, Limits(budget, **caps), settings, cache=cache)


def everything(space: SearchSpace) -> list[Architecture]:
    return [architecture for block in space.enumerate() for architecture in block]


# ---- optima --------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0.16, 0.18, 0.2, 0.25])
def test_the_best_of_a_tiny_space_is_that_of_brute_force(tmp_path, budget):
    feasible = [a for a in everything(TINY) if latency(ArchitectureBatch.of([a]))[0] <= budget]
    best = search(tmp_path, Scoring(), budget, TINY).best
    # Smoothed scores that agree to four decimals are ties.
    assert best.score >= true_score(feasible).max() - 2e-4
    assert best.latency_ms <= budget


@pytest.mark.parametrize("space", [SPACE, LAYERED])
def test_the_best_of_a_large_space_is_near_the_optimum(tmp_path, space):
    best = search(tmp_path, Scoring(), 0.4, space).best
    ms = latency(ArchitectureBatch.of(everything(SPACE)))
    optimum = true_score(everything(SPACE))[ms <= 0.4].max()
    assert best.score >= optimum - 0.005


def test_smoothing_withstands_noise(tmp_path):
    """Over seeds, the smoothed best is truly better than the luckiest score."""
    smoothed, luckiest = [], []
    for seed in range(8):
        settings = replace(QUICK, seed=seed, evaluations=96, algorithm="random")
        result = search(tmp_path / str(seed), Scoring(noise=0.03), settings=settings)
        feasible = [e for e in result.evaluations if e.within_limits]
        lucky = max(feasible, key=lambda e: e.score)
        smoothed.append(true_score([result.best.architecture])[0])
        luckiest.append(true_score([lucky.architecture])[0])
    assert np.mean(smoothed) > np.mean(luckiest)


@pytest.mark.parametrize("algorithm", [a for a in SEARCHERS if a != "optuna-gp"])
def test_every_algorithm_answers(tmp_path, algorithm):
    result = search(tmp_path, Scoring(), settings=replace(QUICK, algorithm=algorithm))
    assert result.best.within_limits
    # The last of the default are those expected to be best, of which some may be known; and BERT's
    # proportions are rare.
    least = {"guided": 38, "autotinybert-fast": 1}.get(algorithm, 40)
    assert least <= result.scored <= 40


# ---- limits --------------------------------------------------------------------------------------


def test_caps_hold_and_the_front_keeps_to_them(tmp_path):
    cap = 2_500_000
    result = search(tmp_path, Scoring(), 0.5, parameters=cap)
    assert result.best.architecture.parameters() <= cap
    assert all(point.architecture.parameters() <= cap for point in result.front)
    unlimited = search(tmp_path / "unlimited", Scoring(), 0.5)
    assert unlimited.best.architecture.parameters() > cap


def test_memory_is_four_bytes_a_parameter(tmp_path):
    by_memory = search(tmp_path / "a", Scoring(), 0.5, memory_bytes=10_000_000)
    by_count = search(tmp_path / "b", Scoring(), 0.5, parameters=2_500_000)
    assert by_memory.best == by_count.best


def test_a_budget_below_the_fastest_evaluates_nothing(tmp_path):
    evaluate = Scoring()
    with pytest.raises(NasError, match=r"least feasible budget is 0\.159 ms"):
        search(tmp_path, evaluate, 0.01)
    assert evaluate.asked == []
    assert list(tmp_path.iterdir()) == []
    assert search(tmp_path, evaluate, 0.159).best.latency_ms <= 0.159


def test_a_budget_above_the_slowest_is_no_limit(tmp_path):
    best = search(tmp_path, Scoring(), 1000.0).best
    assert best.score >= true_score([SPACE.largest])[0] - 1e-3


def test_a_search_begins_near_the_limits_at_all_depths(tmp_path):
    evaluate = Scoring()
    search(tmp_path, evaluate)
    begun = evaluate.asked[: QUICK.spread]
    ms = latency(ArchitectureBatch.of(begun))
    assert ((ms <= 0.4) & (ms > 0.85 * 0.4)).sum() >= 2
    assert {one.num_layers for one in begun} == set(SPACE.num_layers)


def test_those_that_are_given_are_scored_first_and_count(tmp_path):
    given = [SPACE.largest, SPACE.smallest]
    goal = Goal(latency, Limits(0.4))
    results, asked = [], []
    for part in "ab":
        evaluate = Scoring()
        cache = ScoreCache(tmp_path / f"{part}.jsonl", supernet="s", data="d")
        for _ in range(2):  # the second time from the cache
            results += run_searches(SPACE, [goal], evaluate, QUICK, cache=cache, first=given)
        asked.append(evaluate.asked)
    assert asked[0][:2] == given
    assert asked[0] == asked[1]
    assert 32 < len(asked[0]) == results[0].scored <= 32 + 8
    assert len({result.best for result in results}) == 1


def test_a_later_search_looks_near_its_own_limits_first(tmp_path):
    search(tmp_path, Scoring(), 0.4)
    evaluate = Scoring()
    search(tmp_path, evaluate, 0.25)
    ms = latency(ArchitectureBatch.of(evaluate.asked[:4]))
    depths = {one.num_layers for one in evaluate.asked[:4]}
    assert len(evaluate.asked) <= QUICK.refinement
    assert ((ms <= 0.25) & (ms > 0.85 * 0.25)).sum() >= 2
    assert len(depths) >= 2


# ---- fronts and results --------------------------------------------------------------------------


def test_the_front_is_over_measured_scores(tmp_path):
    result = search(tmp_path, Scoring(noise=0.01))
    known = {e.architecture: e for e in result.evaluations}
    for point in result.front:
        assert point.score == known[point.architecture].score
    rows = non_dominated(
        [e.latency_ms for e in result.evaluations], [e.score for e in result.evaluations]
    )
    assert [result.evaluations[r].architecture for r in rows] == [
        p.architecture for p in result.front
    ]


def test_a_result_survives_json(tmp_path):
    result = search(tmp_path, Scoring(broken=3))
    assert result.failed
    content = json.loads(json.dumps(result.to_dict()))
    assert SearchResult.from_dict(content) == result
    assert SearchResult.from_dict(content | {"optimum": {}, "score_noise": 0.1}) == result  # older
    broken = {"hidden_size": 8, "layers": [{"num_heads": 1}]}
    for wrong in ({}, {"limits": 3}, content | {"failed": [[broken, "?"]]}):
        with pytest.raises(NasError):
            SearchResult.from_dict(wrong)


def test_the_next_to_try_is_faster(tmp_path):
    result = search(tmp_path, Scoring())
    following = result.best_within(0.95 * result.best.latency_ms)
    assert following is not None
    assert following.latency_ms <= 0.95 * result.best.latency_ms
    assert following.smoothed_score <= result.best.smoothed_score
    assert result.best_within(0.0) is None


def test_the_next_to_try_keeps_to_the_caps_too(tmp_path):
    """The second candidate as well as the first: scores of larger models may be known."""
    search(tmp_path, Scoring(), 0.5)
    cap = 2_500_000
    result = search(tmp_path, Scoring(), 0.5, parameters=cap)
    tried, cut_ms = [], np.inf
    while (following := result.best_within(cut_ms)) is not None:
        tried.append(following)
        cut_ms = 0.99 * following.latency_ms
    assert tried[0] == result.best
    assert len(tried) > 2
    assert all(one.architecture.parameters() <= cap for one in tried)
    larger = [e for e in result.evaluations if e.architecture.parameters() > cap]
    assert max(e.smoothed_score for e in larger) > result.best.smoothed_score
    assert not any(e.within_limits for e in larger)


def test_ties_go_to_the_lower_latency():
    def evaluation(hidden_size: int, ms: float, smoothed: float) -> Evaluation:
        architecture = Architecture.uniform(
            num_layers=1, hidden_size=hidden_size, num_heads=1, intermediate_size=4
        )
        return Evaluation(architecture, ms, 0.9, smoothed, within_limits=True)

    fast, slow = evaluation(8, 1.0, 0.90001), evaluation(16, 2.0, 0.90002)
    better = evaluation(32, 3.0, 0.9002)
    assert best_of([slow, fast]) == best_of([fast, slow]) == fast
    assert best_of([fast, better, slow]) == better
    assert best_of([]) is None


# ---- the cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [SPACE, LAYERED])
def test_repeating_a_search_scores_nothing_and_answers_the_same(tmp_path, space):
    first = search(tmp_path, Scoring(noise=0.01), space=space)
    search(tmp_path, Scoring(noise=0.01), 0.3, space=space)  # what comes later does not matter
    evaluate = Scoring(noise=0.01)
    again = search(tmp_path, evaluate, space=space)
    assert evaluate.asked == []
    assert again == replace(first, newly_scored=0)


def test_a_second_budget_costs_a_few_evaluations_near_it(tmp_path):
    search(tmp_path, Scoring())
    evaluate = Scoring()
    second = search(tmp_path, evaluate, 0.25)
    assert len(evaluate.asked) == second.newly_scored <= QUICK.refinement
    assert (latency(ArchitectureBatch.of(evaluate.asked)) <= 0.25).all()
    ms = latency(ArchitectureBatch.of(everything(SPACE)))
    optimum = true_score(everything(SPACE))[ms <= 0.25].max()
    assert second.best.score >= optimum - 0.005


def test_scores_of_a_wider_space_inform_a_narrower_one_without_leaking_into_it(tmp_path):
    search(tmp_path, Scoring(), space=LAYERED)
    result = search(tmp_path, Scoring())
    assert all(e.architecture in SPACE for e in result.evaluations)


@pytest.mark.parametrize(
    ("space", "stop_after"), [(SPACE, 0), (SPACE, 8), (SPACE, 20), (SPACE, 32), (LAYERED, 20)]
)
def test_an_interrupted_search_goes_on_as_if_undisturbed(tmp_path, space, stop_after):
    whole = Scoring(noise=0.01)
    undisturbed = search(tmp_path / "whole", whole, space=space)

    before, after = Scoring(noise=0.01, stop_after=stop_after), Scoring(noise=0.01)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts", before, space=space)
    resumed = search(tmp_path / "parts", after, space=space)
    assert before.asked + after.asked == whole.asked
    assert resumed == replace(undisturbed, newly_scored=len(after.asked))


def test_a_search_killed_at_a_torn_line_goes_on_as_if_undisturbed(tmp_path):
    whole = Scoring(noise=0.01)
    undisturbed = search(tmp_path / "whole", whole)
    content = (tmp_path / "whole" / "scores.jsonl").read_bytes()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "scores.jsonl").write_bytes(content[: len(content) // 2])
    resumed = search(tmp_path / "parts", Scoring(noise=0.01))
    assert resumed == replace(undisturbed, newly_scored=resumed.newly_scored)
    assert 0 < resumed.newly_scored < undisturbed.newly_scored
    assert (tmp_path / "parts" / "scores.jsonl").read_bytes() == content


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("test_search", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["test_search"] = module
spec.loader.exec_module(module)
class Killed(module.Scoring):
    def next(self):
        if len(self.asked) >= 16:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().next()
module.search(Path(sys.argv[2]), Killed(noise=0.01))
"""


@pytest.mark.slow
def test_kill_9_costs_what_was_in_flight(tmp_path):
    undisturbed = search(tmp_path / "whole", Scoring(noise=0.01))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, __file__, str(tmp_path / "parts")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == -signal.SIGKILL
    resumed = search(tmp_path / "parts", Scoring(noise=0.01))
    assert resumed.newly_scored == undisturbed.newly_scored - 16
    assert resumed == replace(undisturbed, newly_scored=resumed.newly_scored)


# ---- several goals -------------------------------------------------------------------------------


def test_one_search_serves_several_budgets_and_targets(tmp_path):
    def slower(batch: ArchitectureBatch) -> FloatArray:
        return 2 * latency(batch) + 0.05 * batch.num_layers

    goals = [
        Goal(latency, Limits(0.25)),
        Goal(latency, Limits(0.4)),
        Goal(slower, Limits(0.6)),
    ]
    evaluate = Scoring()
    settings = replace(QUICK, evaluations=72)
    cache = ScoreCache(tmp_path / "scores.jsonl", supernet="s", data="d")
    results = run_searches(SPACE, goals, evaluate, settings, cache=cache)
    assert 72 < len(evaluate.asked) <= 80
    every = everything(SPACE)
    for goal, result in zip(goals, results, strict=True):
        ms = goal.predict_latency(ArchitectureBatch.of(every))
        optimum = true_score(every)[ms <= goal.limits.latency_ms].max()
        assert result.best.latency_ms <= goal.limits.latency_ms
        assert result.best.score >= optimum - 0.004
        found = [e.latency_ms for e in result.evaluations]
        assert found == pytest.approx(
            goal.predict_latency(ArchitectureBatch.of([e.architecture for e in result.evaluations]))
        )


def test_an_infeasible_goal_among_others_is_named(tmp_path):
    goals = [Goal(latency, Limits(0.4)), Goal(latency, Limits(0.01))]
    cache = ScoreCache(tmp_path / "scores.jsonl", supernet="s", data="d")
    with pytest.raises(NasError, match=r"0\.01 ms is below the fastest"):
        run_searches(SPACE, goals, Scoring(), QUICK, cache=cache)


# ---- who scores ----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["guided", "evolution", "nsga2"])
def test_the_number_of_workers_and_their_speed_do_not_matter(tmp_path, algorithm):
    settings = replace(QUICK, algorithm=algorithm)
    alone, crowd = Scoring(noise=0.01), Scoring(noise=0.01, workers=8)
    one = search(tmp_path / "one", alone, settings=settings)
    many = search(tmp_path / "many", crowd, settings=settings)
    assert set(alone.asked) == set(crowd.asked)
    assert alone.asked != crowd.asked
    assert one == many


def test_what_cannot_be_scored_is_reported_and_left_out(tmp_path):
    first = search(tmp_path, Scoring(broken=3))
    assert first.failed
    assert all(a.num_layers == 3 and "out of memory" in why for a, why in first.failed)
    assert all(e.architecture.num_layers != 3 for e in first.evaluations)
    evaluate = Scoring()
    again = search(tmp_path, evaluate)
    assert evaluate.asked == []  # nor is it tried again
    assert again == replace(first, newly_scored=0)


def test_outcomes_are_recorded_as_they_come(tmp_path):
    recorded: list[tuple[Architecture, Outcome]] = []

    class Kept:
        def record(self, architectures, outcomes) -> None:
            recorded.extend(zip(architectures, outcomes, strict=True))

    evaluate = Scoring(noise=0.01, broken=3)
    (result,) = run_searches(
        SPACE, [Goal(latency, Limits(0.4))], Recorded(evaluate, Kept(), print),
        replace(QUICK, algorithm="random"),
        cache=ScoreCache(tmp_path / "scores.jsonl", supernet="s", data="d"),
    )  # fmt: skip
    assert [one for one, _ in recorded] == evaluate.asked
    scores = {one: outcome for one, outcome in recorded if isinstance(outcome, float)}
    assert scores == {e.architecture: e.score for e in result.evaluations}
    failed = {one for one, outcome in recorded if isinstance(outcome, Failed)}
    assert failed <= {architecture for architecture, _ in result.failed}


def test_where_nothing_can_be_scored_the_search_ends(tmp_path):
    class Broken(Scoring):
        def next(self) -> tuple[Architecture, Outcome]:
            return super().next()[0], Failed("FileNotFoundError: no weights")

    evaluate = Broken()
    with pytest.raises(NasError, match="no architecture can be scored: FileNotFoundError"):
        search(tmp_path, evaluate)
    assert len(evaluate.asked) == 16, "as many failures show that a search is hopeless"


def test_failures_before_anything_was_scored_are_not_held_against_the_next_run(tmp_path):
    class Broken(Scoring):
        def next(self) -> tuple[Architecture, Outcome]:
            return super().next()[0], Failed("OutOfMemoryError: CUDA")

    with pytest.raises(NasError, match="no architecture can be scored"):
        search(tmp_path, Broken())
    mended = search(tmp_path, Scoring())
    assert mended.failed == ()
    assert mended.scored > QUICK.evaluations


def test_one_score_is_enough_for_a_search_to_go_on(tmp_path):
    """Whatever the batch: half of the first one fails, more than would end a hopeless search."""
    settings = replace(QUICK, batch=32, algorithm="random")
    result = search(tmp_path, Scoring(broken=4), settings=settings)
    assert result.failed
    assert result.best.within_limits


def test_every_goal_is_served_when_there_are_more_than_a_batch(tmp_path):
    budgets = (0.5, 0.45, 0.4, 0.35, 0.3, 0.25)
    results = run_searches(
        SPACE,
        [Goal(latency, Limits(budget)) for budget in budgets],
        Scoring(),
        replace(QUICK, evaluations=48, refinement=8),
        cache=ScoreCache(tmp_path / "scores.jsonl", supernet="s", data="d"),
    )
    for result in results:
        assert sum(e.within_limits for e in result.evaluations) >= 6


# ---- settings and progress -----------------------------------------------------------------------


def test_progress_counts_up_to_the_plan(tmp_path, monkeypatch):
    seen: list[SearchProgress] = []
    clock = count(100)
    monkeypatch.setattr("nas.search.rounds.time", SimpleNamespace(monotonic=lambda: next(clock)))
    cache = ScoreCache(tmp_path / "scores.jsonl", supernet="s", data="d")
    result = run_search(
        SPACE, latency, Scoring(), Limits(0.4), QUICK, cache=cache, progress=seen.append
    )
    counts = [progress.scored for progress in seen]
    assert counts == sorted(set(counts))
    assert counts[-1] == result.scored <= seen[-1].planned == 40
    (best,) = seen[-1].best
    assert best is not None
    assert best.score == max(e.score for e in result.evaluations if e.within_limits)
    assert seen[-1].front_size == len(result.front)
    ticks = [progress.seconds for progress in seen]
    assert ticks == list(range(1, len(seen) + 1)), "the clock is read as it begins and each time"
    assert seen[-1].expected_gain is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("evaluations", 0),
        ("evaluations", 1.5),
        ("refinement", 0),
        ("batch", True),
        ("spread", 0),
        ("near", -0.1),
        ("tournament", 33),
        ("least_gain", -1.0),
        ("least_gain", float("nan")),
        ("batches_in_flight", 0),
        ("seed", -1),
        ("algorithm", "annealing"),
    ],
)
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(NasError, match=field):
        SearchSettings(**{field: value})
