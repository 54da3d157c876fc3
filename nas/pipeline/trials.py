"""Whole searches side by side on a cluster, whose scores one search then builds on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.cluster.options import RayOptions
from nas.pipeline.scoring import Scorer
from nas.search.evaluator import Failed, LocalEvaluator
from nas.search.goals import Goal
from nas.search.progress import SearchProgress
from nas.search.score_cache import ScoreCache
from nas.search.search import run_searches
from nas.search.settings import SearchSettings
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.space import SearchSpace


@dataclass(frozen=True)
class Trials:
    """Searches that differ in their seed alone.

    Args:
        scorer: built in each trial's process.
        folder: for the trials' scores, on storage that all workers share.
    """

    space: SearchSpace
    goals: Sequence[Goal]
    scorer: Scorer
    settings: SearchSettings
    folder: Path

    def __call__(self, seed: int, algorithm: str, report: Any) -> dict[str, Any]:
        """One search in the process of its trial; goes on from its scores when started again."""
        settings = replace(self.settings, seed=seed, algorithm=algorithm)
        path = self.folder / f"{algorithm}-{seed}.jsonl"

        def tell(moment: SearchProgress) -> None:
            best = moment.best[0]
            report(moment.scored, None if best is None else best.score)

        (first, *_) = run_searches(
            self.space,
            self.goals,
            LocalEvaluator(self.scorer.build()),
            settings,
            cache=ScoreCache(path, supernet="trial", data="whole"),
            progress=tell,
        )
        return {"scores": [[e.architecture.to_dict(), e.score] for e in first.evaluations]}


def run_seeds(
    trials: Trials, count: int, options: RayOptions, cache: ScoreCache, display: Display
) -> None:
    """Run the searches of ``count`` seeds as trials of Ray Tune, and keep all their scores.

    A trial that fails for good costs its scores and a warning.
    """
    from nas.cluster.connection import connected
    from nas.cluster.trials import TrialSettings, run_trials

    trials.folder.mkdir(parents=True, exist_ok=True)
    seeds = [trials.settings.seed + number for number in range(count)]
    algorithm = trials.settings.algorithm
    done = dict.fromkeys(seeds, 0)
    planned = count * (trials.settings.evaluations + trials.settings.refinement)
    with (
        connected(options.address),
        display.bar(f"Search with {count} seeds") as bar,
    ):

        def show(seed: int, _algorithm: str, scored: int, _best: float | None) -> None:
            done[seed] = scored
            bar(sum(done.values()), planned)

        found = run_trials(
            trials,
            seeds,
            [algorithm],
            TrialSettings(folder=trials.folder / "tune", cpus=options.threads, gpus=options.gpus),
            progress=show,
        )
    for trial in found:
        if isinstance(trial.found, Failed):
            display.warn(f"the search with seed {trial.seed} failed: {trial.found.reason}")
            continue
        scores = {Architecture.from_dict(a): float(s) for a, s in trial.found["scores"]}
        unknown = [a for a in scores if a not in cache]
        cache.add(unknown, [scores[a] for a in unknown])
