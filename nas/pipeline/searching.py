"""The stage that searches: which architectures are scored, and what stands on the front."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latency.target import Target
from nas.models.evaluate import collator
from nas.models.outline import Outline
from nas.pipeline.guide import Guide
from nas.pipeline.learning import EncodedTask
from nas.pipeline.measuring import PROFILE, load_predictor, teacher_ms
from nas.pipeline.recipe import Recipe, Scores
from nas.pipeline.request import Aim, Request, Resources
from nas.pipeline.scoring import EDITION as SCORING
from nas.pipeline.scoring import Scorer, SupernetScorer
from nas.pipeline.stage import Stage
from nas.pipeline.trials import Trials, run_seeds
from nas.search.constraints import Limits
from nas.search.designs import designs_below, designs_for
from nas.search.evaluator import Evaluator, LocalEvaluator, Recorded
from nas.search.goals import Goal, Goals, PredictLatency
from nas.search.pool import build_pool
from nas.search.result import SearchResult
from nas.search.search import run_searches
from nas.search.searcher import new_searcher
from nas.search.settings import SearchSettings
from nas.store.manifest import SCRATCH, file_digest
from nas.store.result_folder import MODEL
from nas.store.shared_scores import open_scores
from nas.store.workspace import Artifact, Workspace
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.space import SearchSpace

if TYPE_CHECKING:  # Optuna is an extra
    from nas.search.study import SearchStudy

EDITION = 4
"""Of how candidates are looked for: raised when the same search comes to score others."""

FITTED = 128
"""Texts on which a sub-network is repaired, or its factors fitted, before it is scored."""


def search_settings(recipe: Recipe, seed: int) -> SearchSettings:
    """A recipe's settings of the search, for one seed."""
    return replace(recipe.search, seed=recipe.search.seed + seed)


def scores_of(request: Request) -> Scores:
    """With which weights candidates are scored: a supernet that is given is not passed over."""
    how = request.recipe.scores
    return "inherited" if how == "fitted" and request.supernet is not None else how


def goal_of(aim: Aim, recipe: Recipe, profile: Artifact, teacher: Outline) -> Goal:
    """What a search keeps to for an aim, by the profile of its target.

    A speed-up is over the teacher as it was timed with the profile. What is left free of the budget
    is the recipe's headroom, and what predictions may fall short by at the recipe's confidence.
    """
    predictor, percentile = load_predictor(profile.path), aim.budget.percentile
    margin = predictor.margin(min(recipe.confidence, predictor.max_confidence), percentile)
    limits = Limits(
        aim.budget.limit_ms(teacher_ms(profile.path, percentile)),
        aim.max_parameters,
        aim.max_memory_bytes,
        _kept_free(recipe.headroom, margin),
    )
    return Goal(_predict(profile.path, percentile, aim.target), limits, teacher.shape)


def _kept_free(headroom: float, margin: float) -> float:
    """Share of the budget that a prediction leaves, so that 1 + ``margin`` times it passes.

    A candidate passes if it measures with the headroom to spare.
    """
    return 1 - (1 - headroom) / (1 + max(margin, 0.0))


@cache
def _predict(profile: Path, percentile: int, target: Target) -> PredictLatency:
    """One function for all budgets of a target, so that each batch is predicted once."""
    return partial(load_predictor(profile).predict, percentile=percentile, target=target)


def check_goals(space: SearchSpace, goals: Sequence[Goal], settings: SearchSettings) -> None:
    """Refuse a budget or a cap that nothing in the space keeps to, before anything is trained.

    Raises:
        NasError: saying what would be feasible.
    """
    rng = np.random.default_rng(settings.seed)
    pool = build_pool(space, Goals(tuple(goals)), max_enumerated=settings.max_enumerated, rng=rng)
    new_searcher(space, Goals(tuple(goals)), pool, settings)  # which may refuse space or goals


@dataclass(frozen=True)
class SearchPlan:
    """One search: what it looks through, and what its candidates are scored on.

    Args:
        goals, profiles: of each of the request's aims.
        teacher: whose shape hand-made designs follow.
    """

    request: Request
    space: SearchSpace
    goals: tuple[Goal, ...]
    profiles: Sequence[Artifact]
    teacher: Outline
    supernet: Artifact
    task: EncodedTask

    @property
    def settings(self) -> SearchSettings:
        return search_settings(self.request.recipe, self.request.seed)

    @property
    def how(self) -> Scores:
        return scores_of(self.request)

    @property
    def fitted_on(self) -> int:
        """Texts on which a candidate is fitted or repaired before it is scored."""
        return self.request.recipe.importance_examples if self.how == "fitted" else FITTED

    @property
    def scored_on(self) -> str:
        """Names data and way of scoring among the scores of a supernet."""
        data = f"{self.task.data.digest} {self.task.data.task.metric}"
        if self.how == "inherited":
            return data
        return f"{data} {self.how} on {self.fitted_on}, edition {SCORING}"

    def inputs(self, trials: int) -> dict[str, Any]:
        """What decides what a search finds, as a stage's inputs."""
        goals = [
            {
                "profile": file_digest(profile.path / PROFILE),  # one measured anew is another
                "limits": goal.limits.identity(),
                "percentile": aim.budget.percentile,
            }
            for aim, profile, goal in zip(self.request.aims, self.profiles, self.goals, strict=True)
        ]
        return {
            "supernet": self.supernet.key,
            "space": self.space.to_dict(),
            "scores": self.how,
            "scoring": SCORING,
            "fitted": self.fitted_on,
            "data": self.task.data.digest,
            "metric": self.task.data.task.metric,
            "goals": goals,
            "settings": self.settings.identity(),
            **({"trials": trials} if trials > 1 else {}),
        }


def search_stage(
    plan: SearchPlan, guide: Guide, resources: Resources, workspace: Workspace
) -> Stage:
    """Stage ``search``: the scored architectures and the front, for each of the request's aims.

    Args:
        workspace: keeps the scores, which other searches share.
    """
    cluster, space, goals, settings = resources.cluster, plan.space, plan.goals, plan.settings
    metric, trials = plan.task.data.task.metric, 1 if cluster is None else resources.trials

    def build(folder: Path, display: Display) -> None:
        scorer = _scorer(plan, guide)
        scores = open_scores(workspace, supernet=plan.supernet.key, data=plan.scored_on)
        study = _study(plan, resources, display)
        if study is not None:
            recalled = {a: s for a, s in study.recall().items() if a not in scores}
            scores.add(list(recalled), list(recalled.values()))
        if cluster is not None and trials > 1:
            seeds = Trials(space, goals, scorer, settings, folder / SCRATCH / "trials")
            run_seeds(seeds, trials, cluster, scores, display)
        with (
            _evaluator(scorer, resources, display) as evaluator,
            display.board("Search", _names(plan.request.aims)) as show,
        ):
            results = run_searches(
                space, goals,
                evaluator if study is None else Recorded(evaluator, study, display.warn),
                settings, cache=scores, first=_designs(plan), progress=show,
            )  # fmt: skip
        for architecture, reason in results[0].failed:
            display.warn(f"{architecture} could not be scored and is left out: {reason}")
        content = [result.to_dict() for result in results]
        (folder / "search.json").write_text(json.dumps(content))

    def lines(folder: Path) -> list[str]:
        bests = [read_search(folder, number).best for number in range(len(goals))]
        return [
            f"search    {best.architecture}: predicted {best.latency_ms:.3g} ms, "
            f"{metric} {best.score:.4f} {plan.how}"
            for best in bests
        ]

    return Stage(
        name="search", edition=EDITION, inputs=plan.inputs(trials), build=build, lines=lines
    )


def _scorer(plan: SearchPlan, guide: Guide) -> SupernetScorer:
    """What scores candidates, as it travels to other processes."""
    inherited = plan.how == "inherited"
    needs_texts = not inherited or plan.space.compression != (1,)
    return SupernetScorer.of(
        Supernet.from_pretrained(plan.supernet.path / MODEL),
        plan.task.validation if inherited else guide.judged,
        collator(plan.task.tokenizer),
        plan.task.data.task.metric,
        guide.sample_batches(plan.fitted_on) if needs_texts else (),
        plan.how,
        None if inherited else guide.supernet,
    )


def _names(aims: Sequence[Aim]) -> list[str]:
    """What each aim is called while a search runs."""
    if len({aim.target for aim in aims}) == 1:
        return [str(aim.budget) for aim in aims]
    return [f"{aim.budget} on {aim.target}" for aim in aims]


def _designs(plan: SearchPlan) -> list[Architecture]:
    """Shapes that people design by hand, which a search scores first: within each goal's limits,
    and below those of the tightest.
    """
    rng = np.random.default_rng(plan.settings.seed)
    most, teacher = plan.settings.max_enumerated, plan.teacher.architecture
    pool = build_pool(plan.space, Goals(plan.goals), max_enumerated=most, rng=rng)
    within = [designs_for(pool, goal, teacher) for goal in range(len(plan.goals))]
    tightest = int(np.argmax(pool.usage.sum(axis=1)))
    return list(dict.fromkeys(chain(*within, designs_below(pool, tightest, teacher))))


@contextmanager
def _evaluator(scorer: Scorer, resources: Resources, display: Display) -> Iterator[Evaluator]:
    """Who scores: this process, or a cluster's."""
    if resources.cluster is None:
        yield LocalEvaluator(scorer.build())
        return
    from nas.cluster.evaluator import RayEvaluator

    with RayEvaluator(scorer, resources.cluster, warn=display.warn) as evaluator:
        yield evaluator


def _study(plan: SearchPlan, resources: Resources, display: Display) -> SearchStudy | None:
    """The study that records the search, where one is asked for."""
    if resources.study_url is None:
        return None
    from nas.search.study import SearchStudy

    by_target: dict[str, list[Goal]] = {}
    for aim, goal in zip(plan.request.aims, plan.goals, strict=True):
        by_target.setdefault(str(aim.target), []).append(goal)
    kind = "score" if len(plan.goals) == 1 else "front"
    name = f"{plan.space.name} {kind} {plan.supernet.key[:8]}"
    return SearchStudy(
        resources.study_url, name, plan.space, by_target,
        supernet=plan.supernet.key, data=plan.scored_on, warn=display.warn,
    )  # fmt: skip


def record_search(
    plan: SearchPlan, resources: Resources, found: Artifact, display: Display
) -> None:
    """Have the study hold all of a search, what it found in the cache or did long ago included."""
    try:
        study = _study(plan, resources, display)
        if study is not None:
            evaluations = read_search(found.path).evaluations
            study.record([e.architecture for e in evaluations], [e.score for e in evaluations])
    except NasError as error:
        display.warn(f"the search is not recorded: {error}")


def read_search(folder: Path, goal: int = 0) -> SearchResult:
    """What a search found for one of its goals, from the folder of its stage."""
    content = json.loads((folder / "search.json").read_text())
    return SearchResult.from_dict(content[goal])
