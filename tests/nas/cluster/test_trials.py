"""Searches as trials of Ray Tune, on a real cluster of two workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from nas.cluster.options import RayOptions
from nas.pipeline.scoring import Score
from nas.pipeline.trials import Trials, run_seeds
from nas.search.constraints import Limits
from nas.search.evaluator import Failed, LocalEvaluator
from nas.search.goals import Goal
from nas.search.progress import SearchProgress
from nas.search.score_cache import ScoreCache
from nas.search.search import run_search, run_searches
from nas.search.settings import SearchSettings
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.configs import load_space
from supernet.errors import NasError

pytest.importorskip("ray")

SPACE = load_space("tiny")
KILLED = 1
"""The seed of the search that is killed once."""
BROKEN = 2
"""The seed of the search that always fails."""


def latency(batch: ArchitectureBatch) -> np.ndarray[Any, Any]:
    return np.asarray(batch.hidden_size * batch.num_layers, dtype=float)


def score(architecture: Architecture) -> float:
    """Grows with every size, so the largest within the limits is the best."""
    sizes = [layer.intermediate_size + layer.qkv_size for layer in architecture.layers]
    return float(sum(sizes) + architecture.hidden_size)


def search(
    seed: int, algorithm: str, report: Callable[[int, float | None], None], folder: Path
) -> dict[str, Any]:
    """A search that keeps its scores, and notes whom it evaluated."""
    name = f"{algorithm}-{seed}"
    evaluated = folder / f"{name}.evaluated"
    killed = folder / f"{name}.killed"

    def evaluate(architecture: Architecture) -> float:
        if seed == BROKEN:
            raise NasError("out of luck")
        if len(cache) >= 4 and seed == KILLED and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with evaluated.open("a") as file:
            file.write(f"{architecture}\n")
        return score(architecture)

    def progress(at: SearchProgress) -> None:
        report(at.scored, None if at.best[0] is None else at.best[0].score)

    cache = ScoreCache(folder / f"{name}.jsonl", supernet="tiny", data="none")
    settings = SearchSettings(
        evaluations=8, refinement=2, batch=2, population=4, tournament=2,
        algorithm=algorithm, seed=seed,
    )  # fmt: skip
    result = run_search(
        SPACE, latency, LocalEvaluator(evaluate), Limits(latency_ms=40), settings,
        cache=cache, progress=progress,
    )  # fmt: skip
    return {"best": str(result.best.architecture), "score": result.best.score}


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_searches_run_as_trials_and_go_on_from_their_scores(tmp_path: Path) -> None:
    from nas.cluster.trials import TrialSettings, run_trials

    ctrl_c = signal.getsignal(signal.SIGINT)
    told: list[tuple[int, str, int]] = []
    trials = run_trials(
        partial(search, folder=tmp_path),
        seeds=[KILLED, 0, BROKEN],
        algorithms=["evolution"],
        settings=TrialSettings(folder=tmp_path / "tune", restarts=1),
        progress=lambda seed, algorithm, done, best: told.append((seed, algorithm, done)),
    )

    assert signal.getsignal(signal.SIGINT) is ctrl_c, "Ray Tune has taken Ctrl-C"
    assert [(trial.seed, trial.algorithm) for trial in trials] == [
        (1, "evolution"),
        (0, "evolution"),
        (2, "evolution"),
    ]
    *trials, broken = trials
    assert isinstance(broken.found, Failed)
    assert broken.found.reason.endswith("out of luck")
    assert (tmp_path / "evolution-1.killed").exists()
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "evolution-1.killed").touch()
    for trial in trials:
        assert trial.found == search(trial.seed, trial.algorithm, lambda *_: None, alone)
        evaluated = f"{trial.algorithm}-{trial.seed}.evaluated"
        assert (tmp_path / evaluated).read_text() == (alone / evaluated).read_text()
        assert (trial.seed, trial.algorithm, 10) in told


def test_a_seed_given_twice_is_refused(tmp_path: Path) -> None:
    from nas.cluster.trials import TrialSettings, run_trials

    with pytest.raises(NasError, match=r"seeds must be one or more, each once, not \[1, 1\]"):
        run_trials(search, [1, 1], ["random"], TrialSettings(folder=tmp_path))


@dataclass(frozen=True)
class Sizes:
    """Scores by the sizes alone."""

    def build(self) -> Score:
        return score


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_search_builds_on_those_of_several_seeds(tmp_path: Path) -> None:
    settings = SearchSettings(evaluations=6, refinement=2, algorithm="random", seed=7)
    goals = [Goal(latency, Limits(latency_ms=40))]
    trials = Trials(SPACE, goals, Sizes(), settings, tmp_path / "trials")
    cache = ScoreCache(tmp_path / "scores.jsonl", supernet="tiny", data="none")
    run_seeds(trials, 2, RayOptions("local"), cache, Display(Console(quiet=True)))
    alone: set[Architecture] = set()
    for seed in (7, 8):
        path = tmp_path / f"{seed}.jsonl"
        own = ScoreCache(path, supernet="tiny", data="none")
        chances = replace(settings, seed=seed)
        evaluator = LocalEvaluator(Sizes().build())
        (result,) = run_searches(SPACE, goals, evaluator, chances, cache=own)
        alone |= {one.architecture for one in result.evaluations}
    assert set(cache.begin("any")) == alone
    assert all(cache[one] == score(one) for one in alone)
