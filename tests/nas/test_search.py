"""A search answers with the best within limits, the same after a kill, and cheaply again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.search.constraints import FloatArray, Limits
from nas.search.front import non_dominated
from nas.search.result import Evaluation, SearchResult, best_of
from nas.search.score_cache import ScoreCache
from nas.search.search import SearchProgress, run_search
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.space import SearchSpace

ROOT = Path(__file__).parents[2]
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
QUICK = SearchSettings(evaluations=32, batch=8, population=16, tournament=4, seed=5)


def latency(batch: ArchitectureBatch) -> FloatArray:
    width = batch.over_layers(4 * batch.qkv_size + 2 * batch.intermediate_size)
    return 0.1 + 0.05 * batch.num_layers + 1e-6 * batch.hidden_size * width


def true_score(architectures: Sequence[Architecture]) -> FloatArray:
    batch = ArchitectureBatch.of(list(architectures))
    depth = batch.num_layers
    qkv, intermediate = batch.qkv_size.sum(1) / depth, batch.intermediate_size.sum(1) / depth
    return 1 - 2 / batch.hidden_size - 0.1 / depth - 1 / qkv - 2 / intermediate


class Evaluator:
    """Scores as a validation set would: with noise that belongs to the architecture."""

    def __init__(self, noise: float = 0.0, stop_after: int = 10**9) -> None:
        self.asked: list[Architecture] = []
        self.noise, self.stop_after = noise, stop_after

    def __call__(self, architectures: Sequence[Architecture]) -> FloatArray:
        if len(self.asked) + len(architectures) > self.stop_after:
            raise KeyboardInterrupt
        self.asked += architectures
        chance = [np.random.default_rng(list(a.to_json().encode())).normal() for a in architectures]
        return true_score(architectures) + self.noise * np.array(chance)


def search(
    folder: Path,
    evaluate: Evaluator,
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
    best = search(tmp_path, Evaluator(), budget, TINY).best
    # Smoothed scores that agree to four decimals are ties.
    assert best.score >= true_score(feasible).max() - 2e-4
    assert best.latency_ms <= budget


@pytest.mark.parametrize("space", [SPACE, LAYERED])
def test_the_best_of_a_large_space_is_near_the_optimum(tmp_path, space):
    best = search(tmp_path, Evaluator(), 0.4, space).best
    ms = latency(ArchitectureBatch.of(everything(SPACE)))
    optimum = true_score(everything(SPACE))[ms <= 0.4].max()
    assert best.score >= optimum - 0.005


def test_smoothing_withstands_noise(tmp_path):
    """Over seeds, the smoothed best is truly better than the luckiest score."""
    smoothed, luckiest = [], []
    for seed in range(8):
        settings = replace(QUICK, seed=seed, evaluations=48, algorithm="random")
        result = search(tmp_path / str(seed), Evaluator(noise=0.03), settings=settings)
        feasible = [e for e in result.evaluations if e.within_limits]
        lucky = max(feasible, key=lambda e: e.score)
        smoothed.append(true_score([result.best.architecture])[0])
        luckiest.append(true_score([lucky.architecture])[0])
    assert np.mean(smoothed) > np.mean(luckiest)


@pytest.mark.parametrize("algorithm", ["evolution", "random"])
def test_the_baselines_answer_too(tmp_path, algorithm):
    result = search(tmp_path, Evaluator(), settings=replace(QUICK, algorithm=algorithm))
    assert result.best.within_limits
    assert result.scored == 40


# ---- limits --------------------------------------------------------------------------------------


def test_caps_hold_and_the_front_keeps_to_them(tmp_path):
    cap = 2_500_000
    result = search(tmp_path, Evaluator(), 0.5, parameters=cap)
    assert result.best.architecture.parameters() <= cap
    assert all(point.architecture.parameters() <= cap for point in result.front)
    unlimited = search(tmp_path / "unlimited", Evaluator(), 0.5)
    assert unlimited.best.architecture.parameters() > cap


def test_memory_is_four_bytes_a_parameter(tmp_path):
    by_memory = search(tmp_path / "a", Evaluator(), 0.5, memory_bytes=10_000_000)
    by_count = search(tmp_path / "b", Evaluator(), 0.5, parameters=2_500_000)
    assert by_memory.best == by_count.best


def test_a_budget_below_the_fastest_evaluates_nothing(tmp_path):
    evaluate = Evaluator()
    with pytest.raises(NasError, match=r"least feasible budget is 0\.159 ms"):
        search(tmp_path, evaluate, 0.01)
    assert evaluate.asked == []
    assert list(tmp_path.iterdir()) == []
    assert search(tmp_path, evaluate, 0.159).best.latency_ms <= 0.159


def test_a_budget_above_the_slowest_is_no_limit(tmp_path):
    best = search(tmp_path, Evaluator(), 1000.0).best
    assert best.score >= true_score([SPACE.largest])[0] - 1e-3


def test_most_evaluations_are_near_the_budget_and_some_are_spread(tmp_path):
    result = search(tmp_path, Evaluator())
    ms = np.array([e.latency_ms for e in result.evaluations])
    assert ((ms >= 0.24) & (ms <= 0.4)).mean() > 0.6
    fastest, slowest = latency(ArchitectureBatch.of([SPACE.smallest, SPACE.largest]))
    assert (ms.min(), ms.max()) == (fastest, slowest)


# ---- fronts and results --------------------------------------------------------------------------


def test_the_front_is_over_measured_scores(tmp_path):
    result = search(tmp_path, Evaluator(noise=0.01))
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
    result = search(tmp_path, Evaluator())
    assert SearchResult.from_json(result.to_json()) == result
    for text in ("nonsense", "{}", "[]", '{"limits": 3}'):
        with pytest.raises(NasError):
            SearchResult.from_json(text)


def test_the_next_to_try_is_faster(tmp_path):
    result = search(tmp_path, Evaluator())
    following = result.best_within(0.95 * result.best.latency_ms)
    assert following is not None
    assert following.latency_ms <= 0.95 * result.best.latency_ms
    assert following.smoothed_score <= result.best.smoothed_score
    assert result.best_within(0.0) is None


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
    first = search(tmp_path, Evaluator(noise=0.01), space=space)
    search(tmp_path, Evaluator(noise=0.01), 0.3, space=space)  # what comes later does not matter
    evaluate = Evaluator(noise=0.01)
    again = search(tmp_path, evaluate, space=space)
    assert evaluate.asked == []
    assert again == replace(first, newly_scored=0)


def test_a_second_budget_costs_a_few_evaluations_near_it(tmp_path):
    search(tmp_path, Evaluator())
    evaluate = Evaluator()
    second = search(tmp_path, evaluate, 0.25)
    assert len(evaluate.asked) == second.newly_scored <= QUICK.refinement
    assert (latency(ArchitectureBatch.of(evaluate.asked)) <= 0.25).all()
    ms = latency(ArchitectureBatch.of(everything(SPACE)))
    optimum = true_score(everything(SPACE))[ms <= 0.25].max()
    assert second.best.score >= optimum - 0.005


def test_scores_of_a_wider_space_inform_a_narrower_one_without_leaking_into_it(tmp_path):
    search(tmp_path, Evaluator(), space=LAYERED)
    result = search(tmp_path, Evaluator())
    assert all(e.architecture in SPACE for e in result.evaluations)


@pytest.mark.parametrize(
    ("space", "stop_after"), [(SPACE, 0), (SPACE, 8), (SPACE, 20), (SPACE, 32), (LAYERED, 20)]
)
def test_an_interrupted_search_goes_on_as_if_undisturbed(tmp_path, space, stop_after):
    whole = Evaluator(noise=0.01)
    undisturbed = search(tmp_path / "whole", whole, space=space)

    before, after = Evaluator(noise=0.01, stop_after=stop_after), Evaluator(noise=0.01)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts", before, space=space)
    resumed = search(tmp_path / "parts", after, space=space)
    assert before.asked + after.asked == whole.asked
    assert resumed == replace(undisturbed, newly_scored=len(after.asked))


def test_a_search_killed_at_a_torn_line_goes_on_as_if_undisturbed(tmp_path):
    whole = Evaluator(noise=0.01)
    undisturbed = search(tmp_path / "whole", whole)
    content = (tmp_path / "whole" / "scores.jsonl").read_bytes()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "scores.jsonl").write_bytes(content[: len(content) // 2])
    resumed = search(tmp_path / "parts", Evaluator(noise=0.01))
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
class Killed(module.Evaluator):
    def __call__(self, architectures):
        if len(self.asked) >= 16:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(architectures)
module.search(Path(sys.argv[2]), Killed(noise=0.01))
"""


def test_kill_9_costs_one_batch_at_most(tmp_path):
    undisturbed = search(tmp_path / "whole", Evaluator(noise=0.01))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, __file__, str(tmp_path / "parts")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == -signal.SIGKILL
    resumed = search(tmp_path / "parts", Evaluator(noise=0.01))
    assert resumed.newly_scored == undisturbed.newly_scored - 16
    assert resumed == replace(undisturbed, newly_scored=resumed.newly_scored)


# ---- settings and progress -----------------------------------------------------------------------


def test_progress_counts_up_to_the_plan(tmp_path):
    seen: list[SearchProgress] = []
    cache = ScoreCache(tmp_path / "scores.jsonl", supernet="s", data="d")
    result = run_search(
        SPACE, latency, Evaluator(), Limits(0.4), QUICK, cache=cache, progress=seen.append
    )
    counts = [progress.scored for progress in seen]
    assert counts == sorted(set(counts))
    assert counts[-1] == result.scored <= seen[-1].planned == 40
    assert seen[-1].best_score == max(e.score for e in result.evaluations if e.within_limits)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("evaluations", 0),
        ("evaluations", 1.5),
        ("refinement", 0),
        ("batch", True),
        ("spread", 1.1),
        ("near", -0.1),
        ("tournament", 33),
        ("exploration", -1.0),
        ("exploration", float("nan")),
        ("seed", -1),
        ("algorithm", "annealing"),
    ],
)
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(NasError, match=field):
        SearchSettings(**{field: value})
