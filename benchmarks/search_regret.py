"""How far from the true optimum searches end, and after how many evaluations they come near.

    python benchmarks/search_regret.py

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
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from result_files import origin, save_figure, write_result
from score_table import FINE, RESULTS, SMALL, Row, batch_of, read

from latency.predictor import LatencyPredictor
from latency.profile import Profile
from nas.report.plots import PALETTE
from nas.search.constraints import Limits
from nas.search.evaluator import LocalEvaluator
from nas.search.goals import Goal, Goals, PredictLatency
from nas.search.pool import Pool, build_pool
from nas.search.score_cache import ScoreCache
from nas.search.score_predictor import features
from nas.search.search import run_searches
from nas.search.settings import SearchSettings
from nas.terminal.progress import Display
from supernet.architecture import Architecture
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
        test: its accuracy on data that no search sees, (N,), where all are evaluated.
        row_of: from an architecture's sizes to its place.
        predict_latency: of the profile.
        about: how the scores were come by.
    """

    space: SearchSpace
    pool: Pool
    score: NDArray[np.float64]
    test: NDArray[np.float64] | None
    row_of: dict[tuple[int, ...], int]
    predict_latency: PredictLatency
    about: dict[str, Any]

    def __call__(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return self.score[[self.row_of[sizes_of(a)] for a in architectures]]

    def test_of(self, architecture: Architecture) -> float | None:
        return None if self.test is None else float(self.test[self.row_of[sizes_of(architecture)]])


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


def load_table(
    name: str, task: str, profile: Path, score: NDArray[np.float64] | None = None
) -> Table:
    """A table by its space's name.

    Args:
        score: of all its architectures, where they were fitted before.
    """
    about = json.loads((RESULTS / f"score_table-{task}.json").read_text())
    rows = read(RESULTS / f"score_table-{task}-{name}.csv")
    predictor = LatencyPredictor(Profile.load(profile)).fit()
    if name == SMALL.name:
        space = SMALL
        scores = {row[:5]: row.validation / about["validation"] for row in rows}
        tests = {row[:5]: row.test / about["test"] for row in rows}
        every = [sizes_of(a) for block in space.enumerate() for a in block]
        score, told = np.array([scores[sizes] for sizes in every]), {"evaluated": len(rows)}
        test = np.array([tests[sizes] for sizes in every])
    else:
        space, told, test = FINE, {}, None
        if score is None:
            score, told = fitted(rows, about["validation"], space)
        every = [sizes_of(a) for block in space.enumerate() for a in block]
    everywhere = Goals((Goal(predictor.predict, Limits(1e9)),))
    pool = build_pool(space, everywhere, max_enumerated=10**9, rng=np.random.default_rng(0))
    row_of = {sizes: row for row, sizes in enumerate(every)}
    return Table(space, pool, score, test, row_of, predictor.predict, told)


def budgets_of(table: Table) -> list[float]:
    """Five budgets in ms, from tight to loose."""
    low, high = np.log(table.pool.latency_ms.min()), np.log(table.pool.latency_ms.max())
    return [float(np.exp(low + share * (high - low))) for share in QUANTILES]


def run(table: Table, algorithm: str, budget_ms: float, seed: int, scratch: Path) -> dict[str, Any]:
    """One search: its regret where it fell, as (evaluations, regret), and that of its answer."""
    path = scratch / "scores.jsonl"
    path.unlink(missing_ok=True)
    settings = SearchSettings(
        evaluations=EVALUATIONS - 8, refinement=8, algorithm=algorithm, seed=seed
    )
    evaluator = LocalEvaluator(lambda architecture: float(table([architecture])[0]))
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
    regret = (optimum - np.maximum.accumulate(score)).round(6).tolist()
    best = max((e for e in result.evaluations if e.within_limits), key=lambda e: e.score)
    steps = [n for n, value in enumerate(regret) if n == 0 or value < regret[n - 1]]
    return {
        "algorithm": algorithm,
        "budget_ms": budget_ms,
        "seed": seed,
        "regret": [(n + 1, regret[n]) for n in steps],
        "answer": round(float(optimum - result.best.score), 6),
        "test": [table.test_of(e.architecture) for e in (result.best, best)],
        "overhead_ms": 1e3 * seconds / len(regret),
    }


# ---- all runs ------------------------------------------------------------------------------------

_table: Table


def _open(name: str, task: str, profile: Path, score: NDArray[np.float64] | None) -> None:
    """Let a worker process have its table; a fit is handed on, as it takes minutes."""
    global _table
    _table = load_table(name, task, profile, score)


def _run(job: tuple[str, float, int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        return run(_table, *job, Path(scratch))


def run_all(
    name: str, seeds: int, arguments: argparse.Namespace, log: Path
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every searcher on a table, for every budget and seed; what the log holds is not repeated."""
    table = load_table(name, arguments.task, arguments.profile)
    jobs = list(product(arguments.searchers, budgets_of(table), range(seeds)))
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(row["algorithm"], row["budget_ms"], row["seed"]): row for row in done}
    left = [job for job in jobs if job not in known]
    setup = (name, arguments.task, arguments.profile, table.score)
    with (
        log.open("a") as out,
        ProcessPoolExecutor(arguments.processes, initializer=_open, initargs=setup) as processes,
        Display().bar(f"Search {name}") as bar,
    ):
        for count, row in enumerate(processes.map(_run, left), start=1):
            out.write(json.dumps(row) + "\n")
            out.flush()
            known[row["algorithm"], row["budget_ms"], row["seed"]] = row
            bar(count, len(left))
    about = table.about | {
        "architectures": len(table.score),
        "budgets": [
            {
                "ms": budget,
                "within": int((within := table.pool.latency_ms <= budget).sum()),
                "optimum": float(optimum := table.score[within].max()),
                "within_0.1_point": int((table.score[within] >= optimum - 0.001).sum()),
            }
            for budget in budgets_of(table)
        ],
    }
    return [known[job] for job in jobs], about


def reached(row: dict[str, Any], regret: float) -> int | None:
    """After how many evaluations a run was so near to the optimum; None if it never was."""
    return next((count for count, value in row["regret"] if value <= regret), None)


def summary(rows: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """One line for each searcher, with 90% intervals of means by the bootstrap."""
    rng = np.random.default_rng(seed)
    lines = []
    for algorithm in dict.fromkeys(row["algorithm"] for row in rows):
        same = [row for row in rows if row["algorithm"] == algorithm]
        final = np.array([row["regret"][-1][1] for row in same])
        answer = np.array([row["answer"] for row in same])
        counts = np.array([reached(row, 0.005) or np.inf for row in same])
        capped = np.minimum(counts, EVALUATIONS)
        means = rng.choice(capped, (2000, len(capped))).mean(axis=1)
        lines.append(
            {
                "algorithm": algorithm,
                "runs": len(same),
                "within_0.1_point": float((final <= 0.001).mean()),
                "answer_within_0.1_point": float((answer <= 0.001).mean()),
                "mean_regret_points": float(100 * final.mean()),
                "to_0.5_point_median": float(np.median(counts)),
                "to_0.5_point_mean": float(capped.mean()),
                "to_0.5_point_mean_90": np.quantile(means, [0.05, 0.95]).tolist(),
                "never_within_0.5_point": float(np.isinf(counts).mean()),
                "test": None
                if same[0]["test"][0] is None
                else np.mean([r["test"] for r in same], 0).tolist(),
                "overhead_ms": float(np.median([row["overhead_ms"] for row in same])),
            }
        )
    return lines


def show(lines: list[dict[str, Any]]) -> str:
    text = [
        "| searcher | within 0.1 point | its answer | mean regret | evaluations to 0.5 point: "
        "median | mean, 90% interval | never | ms a candidate | test: its answer, highest score |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        low, high = line["to_0.5_point_mean_90"]
        test = ", ".join(f"{value:.1%}" for value in line["test"] or ())
        text.append(
            f"| {line['algorithm']} | {line['within_0.1_point']:.0%} "
            f"| {line['answer_within_0.1_point']:.0%} | {line['mean_regret_points']:.2f} "
            f"| {line['to_0.5_point_median']:.0f} "
            f"| {line['to_0.5_point_mean']:.0f} ({low:.0f} to {high:.0f}) "
            f"| {line['never_within_0.5_point']:.0%} | {line['overhead_ms']:.0f} | {test} |"
        )
    return "\n".join(text)


def by_budget(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[int | None]]]:
    """After how many evaluations each run was within 0.5 point: by searcher, budget in ms, seed."""
    found: dict[str, dict[str, list[int | None]]] = {}
    for row in rows:
        budgets = found.setdefault(row["algorithm"], {})
        budgets.setdefault(f"{row['budget_ms']:.3g}", []).append(reached(row, 0.005))
    return found


def curves(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Regret in points after 1, 2, ... evaluations: mean, and for `guided` the middle half."""
    counts, found = np.arange(1, EVALUATIONS + 1), {}
    for algorithm in dict.fromkeys(row["algorithm"] for row in rows):
        regret = []
        for row in rows:
            if row["algorithm"] == algorithm:
                at, value = zip(*row["regret"], strict=True)  # the first is after 1 evaluation
                regret.append(np.array(value)[np.searchsorted(at, counts, side="right") - 1])
        found[algorithm] = {"mean": _points(np.mean(regret, axis=0))}
        if algorithm == "guided":
            low, high = np.quantile(regret, [0.25, 0.75], axis=0)
            found[algorithm] |= {"low": _points(low), "high": _points(high)}
    return found


def _points(regret: NDArray[np.float64]) -> list[float]:
    return (100 * regret).round(4).tolist()


def plot(tables: dict[str, dict[str, dict[str, list[float]]]], path: Path) -> None:
    """Mean regret over evaluations, with the middle half of the runs for the default searcher."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(tables), 4.0), layout="constrained")
    counts = np.arange(1, EVALUATIONS + 1)
    for place, (name, by_algorithm) in enumerate(tables.items(), start=1):
        axes = figure.add_subplot(1, len(tables), place)
        for algorithm, curve in by_algorithm.items():
            chosen = "low" in curve
            (line,) = axes.plot(
                counts, curve["mean"], label=algorithm,
                linewidth=2.2 if chosen else 1.2, zorder=3 if chosen else 2,
            )  # fmt: skip
            if chosen:
                low, high = curve["low"], curve["high"]
                axes.fill_between(counts, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.axhline(0.1, color=PALETTE["muted"], linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_ylim(0, 20)
        axes.set_xlim(8, EVALUATIONS)
        axes.set_yticks([0, 0.05, 0.1, 0.5, 1, 5, 20], ["0", "0.05", "0.1", "0.5", "1", "5", "20"])
        axes.set_xlabel("evaluations")
        axes.set_ylabel("points below the optimum within the budget, mean")
        axes.set_title(name)
    axes.legend(frameon=False)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="trec", help="whose tables to look up")
    parser.add_argument("--profile", type=Path, default=RESULTS / "search_profile.json")
    parser.add_argument("--tables", nargs="+", default=[FINE.name, SMALL.name])
    parser.add_argument("--searchers", nargs="+", default=list(SEARCHERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 10], help="for each table")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--log", type=Path, default=Path("search_regret-log"))
    arguments = parser.parse_args()
    arguments.log.mkdir(exist_ok=True)

    rows, about = {}, {}
    for name, seeds in zip(arguments.tables, arguments.seeds, strict=True):
        log = arguments.log / f"{name}.jsonl"
        rows[name], about[name] = run_all(name, seeds, arguments, log)
    lines = {name: summary(some) for name, some in rows.items()}
    content = origin("cpu-1-thread") | {
        "evaluations": EVALUATIONS,
        "seeds": dict(zip(arguments.tables, arguments.seeds, strict=True)),
        "tables": about,
        "summary": lines,
        "to_0.5_point": {name: by_budget(some) for name, some in rows.items()},
        "curves": {name: curves(some) for name, some in rows.items()},
    }
    path = RESULTS / "search_regret.json"
    write_result(path, content)
    plot(content["curves"], path.with_suffix(".png"))
    for name, some in lines.items():
        print(f"\n{name}: {about[name]['architectures']:,} architectures\n\n{show(some)}")


if __name__ == "__main__":
    main()
