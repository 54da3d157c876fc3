"""How far from the true optimum searches end, and after how many evaluations they come near.

    python benchmarks/search_regret.py --seeds 20

On two tables of real scores that benchmarks/score_table.py evaluated with a supernet on TREC:
`minilm-fine`, 188,190 architectures, of which a sample was evaluated and the others' scores are
fitted by a forest of trees (chosen by cross-validation among models that are none of the
searchers'), and `minilm-small`, 3,168 architectures that were all evaluated. Latencies are a
profile's predictions. Every searcher has 300 evaluations for each of five budgets. A run that was
killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from score_table import FINE, RESULTS, SMALL, Row, batch_of, read

from latency.fingerprint import Fingerprint
from latency.options import load_target
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from nas.search.constraints import Limits
from nas.search.evaluator import LocalEvaluator
from nas.search.goals import Goal, Goals, PredictLatency
from nas.search.pool import Pool, build_pool
from nas.search.score_cache import ScoreCache
from nas.search.score_predictor import features
from nas.search.search import run_searches
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.space import SearchSpace

EVALUATIONS = 300
QUANTILES = (0.15, 0.3, 0.5, 0.65, 0.8)
"""Budgets, as shares of the way from the fastest to the slowest latency, on a log axis."""
SEARCHERS = ("guided", "autotinybert-evolved", "hat", "optuna-tpe", "nsga2", "evolution", "random")


@dataclass(frozen=True)
class Table:
    """A space whose scores are known.

    Args:
        score: of each architecture, (N,), in the pool's order.
        row_of: from an architecture's sizes to its place.
        predict_latency: of the profile.
        about: how the scores were come by.
    """

    space: SearchSpace
    pool: Pool
    score: NDArray[np.float64]
    row_of: dict[tuple[int, ...], int]
    predict_latency: PredictLatency
    about: dict[str, Any]

    def __call__(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return self.score[[self.row_of[sizes_of(a)] for a in architectures]]


def sizes_of(architecture: Architecture) -> tuple[int, ...]:
    layer = architecture.layers[0]
    return (
        architecture.hidden_size,
        architecture.num_layers,
        layer.num_heads,
        layer.qkv_size,
        layer.intermediate_size,
    )


def fitted(rows: list[Row], examples: int, space: SearchSpace) -> tuple[NDArray[np.float64], Any]:
    """Scores of a whole space, (N,), from those of a sample, by the model that predicts best.

    A model is judged on sizes it has not seen at any depth.
    """
    from scipy.stats import kendalltau
    from sklearn.ensemble import (
        ExtraTreesRegressor,
        HistGradientBoostingRegressor,
        RandomForestRegressor,
    )
    from sklearn.model_selection import GroupKFold, cross_val_predict

    known = features(batch_of(rows))
    score = np.array([row.validation for row in rows]) / examples
    sizes = [row[:1] + row[2:5] for row in rows]
    groups = [sorted(set(sizes)).index(size) for size in sizes]
    models = {
        "extra trees, leaves of 1": ExtraTreesRegressor(300, random_state=0),
        "extra trees, leaves of 2": ExtraTreesRegressor(300, min_samples_leaf=2, random_state=0),
        "random forest, leaves of 2": RandomForestRegressor(
            300, min_samples_leaf=2, random_state=0
        ),
        "boosted trees": HistGradientBoostingRegressor(max_iter=300, random_state=0),
    }
    quality = {}
    for name, model in models.items():
        predicted = cross_val_predict(model, known, score, cv=GroupKFold(5), groups=groups)
        quality[name] = {
            "rmse": float(np.sqrt(np.mean((predicted - score) ** 2))),
            "kendall_tau": float(kendalltau(predicted, score)[0]),
        }
    best = min(quality, key=lambda name: quality[name]["rmse"])
    model = models[best].fit(known, score)
    blocks = [model.predict(features(block)) for block in space.enumerate()]
    return np.concatenate(blocks), {"evaluated": len(rows), "model": best, "models": quality}


def load_table(name: str, task: str, profile: Path) -> Table:
    """A table by its space's name."""
    about = json.loads((RESULTS / f"score_table-{task}.json").read_text())
    rows = read(RESULTS / f"score_table-{task}-{name}.csv")
    predictor = LatencyPredictor(Profile.load(profile)).fit()
    if name == SMALL.name:
        space = SMALL
        scores = {row[:5]: row.validation / about["validation"] for row in rows}
        every = [sizes_of(a) for block in space.enumerate() for a in block]
        score, told = np.array([scores[sizes] for sizes in every]), {"evaluated": len(rows)}
    else:
        space = FINE
        score, told = fitted(rows, about["validation"], space)
        every = [sizes_of(a) for block in space.enumerate() for a in block]
    everywhere = Goals((Goal(predictor.predict, Limits(1e9)),))
    pool = build_pool(space, everywhere, max_enumerated=10**9, rng=np.random.default_rng(0))
    return Table(
        space, pool, score, {sizes: row for row, sizes in enumerate(every)}, predictor.predict, told
    )


def budgets_of(table: Table) -> list[float]:
    """Five budgets in ms, from tight to loose."""
    low, high = np.log(table.pool.latency_ms.min()), np.log(table.pool.latency_ms.max())
    return [float(np.exp(low + share * (high - low))) for share in QUANTILES]


def run(table: Table, algorithm: str, budget_ms: float, seed: int, scratch: Path) -> dict[str, Any]:
    """One search: the regret after each evaluation, and that of its answer."""
    path = scratch / "scores.jsonl"
    path.unlink(missing_ok=True)
    settings = SearchSettings(
        evaluations=EVALUATIONS - 8, refinement=8, algorithm=algorithm, seed=seed
    )
    evaluator = LocalEvaluator(lambda architecture, _: float(table([architecture])[0]))
    start = time.perf_counter()
    (result,) = run_searches(
        table.space,
        [Goal(table.predict_latency, Limits(budget_ms))],
        evaluator,
        settings,
        cache=ScoreCache(path, supernet="table", data="table"),
    )
    seconds = time.perf_counter() - start
    optimum = table.score[table.pool.latency_ms <= budget_ms].max()
    within = np.array([e.within_limits for e in result.evaluations])
    score = np.where(within, [e.score for e in result.evaluations], 0.0)
    regret = optimum - np.maximum.accumulate(score)
    return {
        "algorithm": algorithm,
        "budget_ms": budget_ms,
        "seed": seed,
        "regret": [round(float(value), 6) for value in regret],
        "answer": round(float(optimum - result.best.score), 6),
        "overhead_ms": 1e3 * seconds / len(regret),
    }
