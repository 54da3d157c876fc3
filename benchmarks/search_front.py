"""How much of the true front one search finds, and how fast further answers are.

    python benchmarks/search_front.py

The table `minilm-fine` of benchmarks/search_regret.py, 188,190 architectures with real scores.
One search of 500 evaluations serves 64 budgets from the fastest to the slowest latency; its
front is compared with that of the whole table by hypervolume. Then the answers that need no
evaluation are timed: a further budget, a further target, and the optimum of the predicted problem
over all 1,525,200 architectures of `autotinybert-kd`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from result_files import origin, write_result
from score_table import FINE, RESULTS
from search_regret import Table, load_table

from latency.predictor import LatencyPredictor
from latency.profile import Profile
from nas.report.answers import Answers, on_target
from nas.report.record import Evaluated, ShownFront
from nas.search.constraints import Limits
from nas.search.evaluator import LocalEvaluator
from nas.search.goals import Goal, Goals
from nas.search.hypervolume import hypervolume, reference_point
from nas.search.pool import build_pool
from nas.search.result import SearchResult
from nas.search.score_cache import ScoreCache
from nas.search.score_predictor import fit_predictor
from nas.search.search import run_searches
from nas.search.settings import SearchSettings
from supernet.configs import load_space

EVALUATIONS = 500
BUDGETS = 64
SEARCHERS = ("guided", "nsga2", "random")


def searched(table: Table, algorithm: str, seed: int, goals: list[Goal]) -> SearchResult:
    evaluator = LocalEvaluator(lambda architecture: float(table([architecture])[0]))
    settings = SearchSettings(
        evaluations=EVALUATIONS - 8, refinement=8, algorithm=algorithm, seed=seed, near=0.0
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = ScoreCache(Path(folder) / "scores.jsonl", supernet="table", data="table")
        return run_searches(table.space, goals, evaluator, settings, cache=cache)[0]


def share_of_front(table: Table, result: SearchResult) -> float:
    """The hypervolume of what was evaluated, of that of the whole table."""
    reference = reference_point(table.pool.latency_ms, table.score)
    found = [(e.latency_ms, e.score) for e in result.evaluations]
    ours = hypervolume(*zip(*found, strict=True), reference)
    return ours / hypervolume(table.pool.latency_ms, table.score, reference)


def seconds(call: Callable[[], Any], repeats: int = 5) -> list[float]:
    """Of each of several calls."""
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return spent


def further(table: Table, result: SearchResult, profile: Path) -> dict[str, list[float]]:
    """Seconds of the answers that need no evaluation."""
    evaluations = tuple(
        Evaluated(e.architecture, e.latency_ms, e.score, e.smoothed_score, True)
        for e in result.evaluations
    )
    shown = ShownFront("accuracy", result.front, evaluations, None, 50, None, None, None)
    middle = float(np.median(table.pool.latency_ms))

    def another_target() -> None:
        predictor = LatencyPredictor(Profile.load(profile)).fit()
        Answers(on_target(shown, predictor.predict)).within(middle)

    space = load_space("autotinybert-kd")
    goal = Goal(table.predict_latency, Limits(middle))
    scores = {e.architecture: e.score for e in result.evaluations}

    def enumeration() -> None:
        goals = Goals((goal,))
        pool = build_pool(space, goals, max_enumerated=10**7, rng=np.random.default_rng(0))
        predictor = fit_predictor(scores, goals, seed=0)
        rows = np.arange(len(pool))  # all of them, whatever the budget
        expected = np.concatenate([predictor.expect(block) for block in pool.blocks(rows)])
        assert pool.complete
        assert len(expected) == space.size
        within = np.flatnonzero(pool.usage[0] <= 1)
        pool.batch(within[[np.argmax(expected[within])]])

    return {
        "further_budget": seconds(lambda: Answers(shown).within(middle)),
        "further_target": seconds(another_target),
        "enumeration_of_autotinybert-kd": seconds(enumeration, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="trec", help="whose table to look up")
    parser.add_argument("--profile", type=Path, default=RESULTS / "search_profile.json")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    table = load_table(FINE.name, arguments.task, arguments.profile)
    latency = table.pool.latency_ms
    budgets = np.geomspace(1.02 * latency.min(), latency.max(), BUDGETS).tolist()
    goals = [Goal(table.predict_latency, Limits(budget)) for budget in budgets]

    rows = []
    for algorithm in SEARCHERS:
        for seed in range(arguments.seeds):
            start = time.perf_counter()
            served = goals if algorithm == "guided" else goals[-1:]  # the others know no budgets
            result = searched(table, algorithm, seed, served)
            rows.append(
                {
                    "algorithm": algorithm,
                    "seed": seed,
                    "share_of_hypervolume": share_of_front(table, result),
                    "overhead_ms": 1e3 * (time.perf_counter() - start) / EVALUATIONS,
                }
            )
            print(rows[-1], flush=True)
    times = further(table, searched(table, "guided", 0, goals), arguments.profile)
    for name, spent in times.items():
        print(f"{name}: {min(spent):.3f} to {max(spent):.3f} s")
    content = origin("cpu-1-thread") | {
        "evaluations": EVALUATIONS,
        "budgets_ms": budgets,
        "fronts": rows,
        "seconds": times,
    }
    write_result(RESULTS / "search_front.json", content)


if __name__ == "__main__":
    main()
