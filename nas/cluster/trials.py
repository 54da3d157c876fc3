"""Trials of Ray Tune: whole searches side by side.

Tune only executes. What a search has scored stands in its own score cache, so a trial that is
started again, or a call that is repeated, goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ray import tune

from nas.cluster.connection import ctrl_c_kept
from nas.search.evaluator import Failed
from supernet.errors import NasError, check_number

Report = Callable[[int, float | None], None]
"""Called with the evaluations done and the best score so far; None before there is one."""

Search = Callable[[int, str, Report], dict[str, Any]]
"""From a seed, an algorithm and whom to report to, to what was found, in JSON's types."""

TrialProgress = Callable[[int, str, int, float | None], None]
"""Called with a trial's seed and algorithm, its evaluations and its best score so far."""


@dataclass(frozen=True, kw_only=True)
class TrialSettings:
    """What trials may use.

    Args:
        folder: for Tune's records, on storage that all workers share.
        cpus, gpus: of each trial; as many run at once as the cluster has room for. A share of a
            GPU lets several trials have one.
        restarts: how often a trial that failed is started again.

    Raises:
        NasError: a number out of range.
    """

    folder: Path
    cpus: int = 1
    gpus: float = 0
    restarts: int = 3

    def __post_init__(self) -> None:
        check_number("cpus", self.cpus, 1, whole=True)
        check_number("gpus", self.gpus, 0)
        check_number("restarts", self.restarts, 0, whole=True)


@dataclass(frozen=True)
class Trial:
    """One search among several.

    Args:
        found: what the search returned, or why it failed for good.
    """

    seed: int
    algorithm: str
    found: dict[str, Any] | Failed


def run_trials(
    search: Search,
    seeds: Sequence[int],
    algorithms: Sequence[str],
    settings: TrialSettings,
    *,
    progress: TrialProgress = lambda *_: None,
) -> list[Trial]:
    """Run a search by each algorithm with each seed.

    Args:
        search: picklable. It keeps its scores in a cache on storage that all workers share, one
            for each seed and algorithm, and goes on from it when it is started again. Paths in it
            are absolute, for Tune runs each trial in a folder of its own.
        progress: called in this process.

    Returns:
        The trials: the first algorithm's in the order of the seeds, then the second's.

    Raises:
        NasError: no seed, or no algorithm, or one of them twice.
    """
    for name, values in (("seeds", seeds), ("algorithms", algorithms)):
        if not values or len(set(values)) < len(values):
            raise NasError(f"{name} must be one or more, each once, not {list(values)}")
    resources = {"cpu": settings.cpus, "gpu": settings.gpus}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_searched, search=search), resources),
        param_space={
            "seed": tune.grid_search(list(seeds)),
            "algorithm": tune.grid_search(list(algorithms)),
        },
        run_config=tune.RunConfig(
            storage_path=str(settings.folder.absolute()),
            failure_config=tune.FailureConfig(max_failures=settings.restarts),
            callbacks=[_Told(progress)],
            verbose=0,
        ),
    )
    with ctrl_c_kept():
        results = tuner.fit()
    found = {}
    for place in range(len(results)):
        result = results[place]
        assert result.config is not None
        if result.error is None:
            assert result.metrics is not None
            what = result.metrics["found"]
        else:
            what = Failed(str(result.error).strip().splitlines()[-1])
        found[result.config["seed"], result.config["algorithm"]] = what
    return [Trial(s, a, found[s, a]) for a, s in product(algorithms, seeds)]


def _searched(config: dict[str, Any], search: Search) -> dict[str, Any]:
    def report(evaluations: int, best: float | None) -> None:
        tune.report({"evaluations": evaluations, "best": best})

    return {"found": search(config["seed"], config["algorithm"], report)}


class _Told(tune.Callback):
    """Passes on what searches report."""

    def __init__(self, progress: TrialProgress) -> None:
        self.progress = progress

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its settings down; a terminal's progress bar cannot be

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        if "evaluations" in result:
            config = result["config"]
            self.progress(
                config["seed"], config["algorithm"], result["evaluations"], result["best"]
            )
