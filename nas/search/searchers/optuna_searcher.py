"""Optuna's samplers behind ask and tell.

Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019. A
sampler proposes parameters, :mod:`nas.search.optuna_space` makes architectures of them. Latency is
predicted before anything is scored, so a proposal that no goal allows is told back at once as
one that breaks a constraint. It costs no evaluation.

A sampler's state depends on when it was asked what, and a searcher's must not: proposals follow
from the scores told. So each ask works on a copy of a study that holds the told scores alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
from numpy.typing import ArrayLike
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection

from nas.search.constraints import FloatArray
from nas.search.goals import Goals
from nas.search.optuna_space import compose, dimensions, distribution, quietly, values
from nas.search.pool import Pool
from nas.search.searcher import Searcher
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.space import Choices, SearchSpace

_POPULATION = 16
"""Of the genetic algorithms: a search has a hundred scores, and Optuna's 50 would take half."""
_SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed),
    "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(population_size=_POPULATION, seed=seed),
    "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
}
_ATTEMPTS = {"tpe": 16, "gp": 3, "nsga2": 32, "nsga3": 32, "cmaes": 32}
"""Proposals of which one must be new and allowed; a Gaussian process takes long for each."""
_RELAXED = ("gp", "cmaes")
_LIMITS = "limits"
_NEEDED: Mapping[str, Sequence[str]] = {"gp": ("scipy", "torch"), "cmaes": ("cmaes",)}


class OptunaSearch(Searcher):
    """Proposes what an Optuna sampler proposes, within what goals allow.

    The sampler is what the algorithm's name says after ``optuna-``: ``tpe`` (tree-structured Parzen
    estimator), ``gp`` (Gaussian process), ``nsga2``, ``nsga3`` (genetic) or ``cmaes`` (covariance
    matrix adaptation). Where it offers nothing new that is allowed, a random member of the pool
    takes its place.

    With one goal, the score is maximized. With several, the predicted latency on the first one's
    target is minimized too, and a proposal need only keep to the loosest.

    Raises:
        NasError: packages are missing; or ``cmaes`` for several budgets or for a space of a single
            dimension.
    """

    def __init__(
        self, space: SearchSpace, goals: Goals, pool: Pool, settings: SearchSettings
    ) -> None:
        super().__init__(space, goals, pool, settings)
        self._sampler = settings.algorithm.removeprefix("optuna-")
        self._dimensions = dimensions(space)
        _check(self._sampler, len(goals), len(self._dimensions))
        self._distributions: dict[str, BaseDistribution] = {
            name: FloatDistribution(0, 1) if self._sampler in _RELAXED else distribution(choices)
            for name, choices in self._dimensions.items()
        }
        maximize, minimize = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
        with quietly():
            self._told = optuna.create_study(
                sampler=_SAMPLERS[self._sampler](settings.seed),
                directions=[maximize] if len(goals) == 1 else [minimize, maximize],
            )

    def propose(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        chosen: list[Architecture] = []

        def taken(architecture: Architecture) -> bool:
            return self.knows(architecture) or architecture in chosen

        with quietly():
            study = self._study(int(rng.integers(2**31)))
            for _ in range(count):
                found = self._offered(study, taken)
                if found is None:
                    drawn = self.pool.draw(self.rows, 1, rng, taken)
                    if not drawn:
                        break
                    found = drawn[0]
                    self._wait(study, found)
                chosen.append(found)
        return chosen

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        for architecture in architectures:
            if architecture not in self.space:
                raise NasError(f"architecture {architecture} is not in space {self.space.name}")
        super().tell(architectures, scores)
        if not architectures:
            return
        told = zip(*self._measure(architectures), np.asarray(scores, dtype=float), strict=True)
        with quietly():
            for architecture, (latency_ms, beyond, score) in zip(architectures, told, strict=True):
                if self._sampler in ("tpe", "gp"):
                    trial = optuna.trial.create_trial(
                        params=self._params(architecture),
                        distributions=self._distributions,
                        values=self._values(latency_ms, score),
                        constraints={_LIMITS: float(beyond)},
                    )
                    self._told.add_trial(trial)
                else:
                    # The others know a trial's generation from having proposed something for it.
                    self._told.enqueue_trial(self._params(architecture))
                    asked = self._told.ask(self._distributions)
                    _ = asked.relative_params
                    self._finish(self._told, asked, latency_ms, beyond, score)

    def _study(self, seed: int) -> optuna.Study:
        """A study of what is told and what is pending, whose sampler begins with ``seed``."""
        study = copy.deepcopy(self._told)
        study.sampler = _SAMPLERS[self._sampler](seed)
        for architecture in self.pending:
            self._wait(study, architecture)
        return study

    def _wait(self, study: optuna.Study, architecture: Architecture) -> None:
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=self._params(architecture),
            distributions=self._distributions,
        )
        study.add_trial(trial)

    def _offered(
        self, study: optuna.Study, taken: Callable[[Architecture], bool]
    ) -> Architecture | None:
        """What the sampler offers, if it is new and allowed; its trial is left running."""
        for _ in range(_ATTEMPTS[self._sampler]):
            trial = study.ask(self._distributions)
            architecture = self._architecture(trial.params)
            (latency_ms,), (beyond,) = self._measure([architecture])
            if architecture in self.scores:
                self._finish(study, trial, latency_ms, beyond, self.scores[architecture])
            elif beyond > 0:
                self._finish(study, trial, latency_ms, beyond, self._score_beyond(beyond))
            elif not taken(architecture):
                return architecture
        return None

    def _finish(
        self,
        study: optuna.Study,
        trial: optuna.Trial,
        latency_ms: float,
        beyond: float,
        score: float,
    ) -> None:
        trial.set_constraint(_LIMITS, float(beyond))
        study.tell(trial, self._values(latency_ms, score))

    def _measure(self, architectures: Sequence[Architecture]) -> tuple[FloatArray, FloatArray]:
        """Predicted latency in milliseconds, and how far each is beyond what is allowed, (N,)."""
        latencies, usage = self.goals.measure(ArchitectureBatch.of(architectures))
        least = np.array([goal.least_usage for goal in self.goals.each])[:, None]
        beyond = np.maximum(usage - 1, least - usage).min(axis=0)  # of the nearest goal
        return latencies[0], beyond

    def _values(self, latency_ms: float, score: float) -> list[float]:
        return [float(score)] if len(self.goals) == 1 else [float(latency_ms), float(score)]

    def _score_beyond(self, beyond: float) -> float:
        """What is told in place of a score that nobody knows.

        It must not matter to a sampler that heeds the constraint, and a Gaussian process fits it.
        ``cmaes`` heeds none: there the farther outside is the worse, and all is worse than inside.
        """
        scores = list(self.scores.values()) or [0.0]
        if self._sampler == "cmaes":
            return min(scores) - beyond
        return float(np.mean(scores))

    def _architecture(self, params: Mapping[str, Any]) -> Architecture:
        def choose(name: str, choices: Choices) -> int:
            if name not in params:
                return choices[0]
            if self._sampler in _RELAXED:
                return choices[min(int(params[name] * len(choices)), len(choices) - 1)]
            return int(params[name])

        return compose(self.space, choose)

    def _params(self, architecture: Architecture) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, value in values(architecture, self._dimensions).items():
            choices = self._dimensions[name]
            relaxed = (choices.index(value) + 0.5) / len(choices)
            found[name] = relaxed if self._sampler in _RELAXED else value
        return found


def _check(sampler: str, goals: int, dimensions: int) -> None:
    if missing := [name for name in _NEEDED.get(sampler, ()) if find_spec(name) is None]:
        raise NasError(
            f"sampler {sampler} needs the package {missing[0]}: "
            "pip install 'tailorbert[optuna,train]'"
        )
    if sampler == "cmaes" and goals > 1:
        raise NasError(
            f"sampler cmaes searches for one budget, not {goals}; tpe, gp, nsga2 and nsga3 "
            "search for several"
        )
    if sampler == "cmaes" and dimensions < 2:
        raise NasError(
            f"sampler cmaes needs a space of at least 2 dimensions with a choice, not {dimensions}"
        )
