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
from typing import Any, Literal, cast, get_args

import numpy as np
import optuna
from numpy.typing import ArrayLike, NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection

from nas.search.constraints import FloatArray
from nas.search.goals import Goals
from nas.search.optuna_space import compose, dimensions, distribution, quietly, values
from nas.search.pool import Pool
from nas.search.searcher import History
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.space import Choices, SearchSpace

Sampler = Literal["tpe", "gp", "nsga2", "nsga3", "cmaes"]

_ATTEMPTS: Mapping[Sampler, int] = {"tpe": 16, "gp": 3, "nsga2": 32, "nsga3": 32, "cmaes": 32}
"""Proposals of which one must be new and allowed; a Gaussian process takes long for each."""
_RELAXED = ("gp", "cmaes")
_LIMITS = "limits"
_POPULATION = 16
"""Of the genetic algorithms: a search has a hundred scores, and Optuna's 50 would take half."""
_NEEDED: Mapping[str, Sequence[str]] = {"gp": ("scipy", "torch"), "cmaes": ("cmaes",)}


class OptunaSearch:
    """Proposes what an Optuna sampler proposes, within what goals allow.

    With one goal, the score is maximized. With several, the predicted latency on the first one's
    target is minimized too, and a proposal need only keep to the loosest.

    Args:
        space: what to propose from.
        goals: what proposals must keep to.
        pool, rows: what random members are drawn from when the sampler offers nothing new that is
            allowed; the goals allow ``rows``.
        sampler: ``tpe`` (tree-structured Parzen estimator), ``gp`` (Gaussian process), ``nsga2``,
            ``nsga3`` (genetic) or ``cmaes`` (covariance matrix adaptation).
        seed: of every choice.

    Raises:
        NasError: an unknown sampler or one whose packages are missing; ``cmaes`` for
            several budgets or for a space of a single dimension.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        pool: Pool,
        rows: NDArray[np.intp],
        sampler: str,
        seed: int,
    ) -> None:
        self._dimensions = dimensions(space)
        known = _checked(sampler, len(goals), len(self._dimensions))
        self._space, self._goals, self._pool, self._rows = space, goals, pool, rows
        self._sampler = known
        self._history = History(seed)
        self._distributions: dict[str, BaseDistribution] = {
            name: FloatDistribution(0, 1) if known in _RELAXED else distribution(choices)
            for name, choices in self._dimensions.items()
        }
        maximize, minimize = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
        with quietly():
            self._told = optuna.create_study(
                sampler=_optuna_sampler(known, seed),
                directions=[maximize] if len(goals) == 1 else [minimize, maximize],
            )

    def ask(self, count: int) -> list[Architecture]:
        history, rng = self._history, self._history.rng()
        chosen: list[Architecture] = []

        def taken(architecture: Architecture) -> bool:
            return architecture in history or architecture in chosen

        with quietly():
            study = self._study(int(rng.integers(2**31)))
            for _ in range(count):
                found = self._propose(study, taken)
                if found is None:
                    drawn = self._pool.draw(self._rows, 1, rng, taken)
                    if not drawn:
                        break
                    found = drawn[0]
                    self._expect(study, found)
                chosen.append(found)
        history.expect(chosen)
        return chosen

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        for architecture in architectures:
            if architecture not in self._space:
                raise NasError(f"architecture {architecture} is not in space {self._space.name}")
        self._history.tell(architectures, scores)
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
        study.sampler = _optuna_sampler(self._sampler, seed)
        for architecture in self._history.pending:
            self._expect(study, architecture)
        return study

    def _expect(self, study: optuna.Study, architecture: Architecture) -> None:
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=self._params(architecture),
            distributions=self._distributions,
        )
        study.add_trial(trial)

    def _propose(
        self, study: optuna.Study, taken: Callable[[Architecture], bool]
    ) -> Architecture | None:
        """What the sampler offers, if it is new and allowed; its trial is left running."""
        scores = self._history.scores
        for _ in range(_ATTEMPTS[self._sampler]):
            trial = study.ask(self._distributions)
            architecture = self._architecture(trial.params)
            (latency_ms,), (beyond,) = self._measure([architecture])
            if architecture in scores:
                self._finish(study, trial, latency_ms, beyond, scores[architecture])
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
        latencies, usage = self._goals.measure(ArchitectureBatch.of(architectures))
        least = np.array([goal.least_usage for goal in self._goals.each])[:, None]
        beyond = np.maximum(usage - 1, least - usage).min(axis=0)  # of the nearest goal
        return latencies[0], beyond

    def _values(self, latency_ms: float, score: float) -> list[float]:
        return [float(score)] if len(self._goals) == 1 else [float(latency_ms), float(score)]

    def _score_beyond(self, beyond: float) -> float:
        """What is told in place of a score that nobody knows.

        It must not matter to a sampler that heeds the constraint, and a Gaussian process fits it.
        ``cmaes`` heeds none: there the farther outside is the worse, and all is worse than inside.
        """
        scores = list(self._history.scores.values()) or [0.0]
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

        return compose(self._space, choose)

    def _params(self, architecture: Architecture) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, value in values(architecture, self._dimensions).items():
            choices = self._dimensions[name]
            relaxed = (choices.index(value) + 0.5) / len(choices)
            found[name] = relaxed if self._sampler in _RELAXED else value
        return found


def _checked(name: str, goals: int, dimensions: int) -> Sampler:
    sampler = next((known for known in get_args(Sampler) if known == name), None)
    if sampler is None:
        accepted = ", ".join(get_args(Sampler))
        raise NasError(f"sampler must be one of {accepted}, not {name!r}")
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
    return cast(Sampler, sampler)


def _optuna_sampler(sampler: Sampler, seed: int) -> BaseSampler:
    match sampler:
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed)
        case "nsga3":
            return optuna.samplers.NSGAIIISampler(population_size=_POPULATION, seed=seed)
        case "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed)
