"""The stages that choose: the search, and the candidate that measures within the budget."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latency.target import Target
from nas.models.evaluate import collator
from nas.models.teacher import Outline
from nas.pipeline.guide import Guide, sample_batches
from nas.pipeline.learning import EncodedTask
from nas.pipeline.measuring import PROFILE, Trial, load_predictor, measurer, teacher_ms, timed
from nas.pipeline.recipe import Scores
from nas.pipeline.request import Run, origin
from nas.pipeline.scoring import EDITION, Scorer, SupernetScorer
from nas.pipeline.trials import Trials, run_seeds
from nas.search.constraints import Limits
from nas.search.designs import designs_below, designs_for
from nas.search.evaluator import Evaluator, LocalEvaluator, Recorded
from nas.search.goals import Goal, Goals, PredictLatency
from nas.search.pool import build_pool
from nas.search.result import SearchResult
from nas.search.search import new_searcher, run_searches
from nas.search.settings import SearchSettings
from nas.store.manifest import SCRATCH, file_digest
from nas.store.result_folder import MODEL
from nas.store.shared_scores import open_scores
from nas.store.workspace import Artifact
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.space import SearchSpace

if TYPE_CHECKING:  # Optuna is an extra
    from nas.search.study import SearchStudy

SEARCH = 4
"""Edition of how candidates are looked for: raised when the same search comes to score others."""

FITTED = 128
"""Texts on which a sub-network is repaired, or its factors fitted, before it is scored."""


def check_budgets(
    runs: Sequence[Run], space: SearchSpace, teacher: Outline, profiles: Sequence[Artifact]
) -> None:
    """Refuse a budget or a cap that nothing in the space keeps to, before anything is trained.

    Raises:
        NasError: saying what would be feasible.
    """
    settings = search_settings(runs[0])
    goals = Goals(goals_of(runs, profiles, teacher))
    rng = np.random.default_rng(settings.seed)
    pool = build_pool(space, goals, max_enumerated=settings.max_enumerated, rng=rng)
    new_searcher(space, goals, pool, settings)  # which may refuse the space or the goals
    for run, profile in zip(runs, profiles, strict=True):
        if run.request.budget.speedup is not None:
            run.display.say(
                f"budget    {run.request.budget}: {_limits(run, profile).latency_ms:.3g} "
                f"ms, as the teacher takes {teacher_ms(run, profile):.3g} ms"
            )


def search(
    runs: Sequence[Run],
    space: SearchSpace,
    supernet: Artifact,
    profiles: Sequence[Artifact],
    teacher: Outline,
    task: EncodedTask,
    guide: Guide,
) -> Artifact:
    """Artifact ``search``: the scored architectures and the front, for the budget of each run.

    Args:
        runs: they differ in budget and target alone.
        profiles: of each run's target.
    """
    run, settings = runs[0], search_settings(runs[0])
    goals = goals_of(runs, profiles, teacher)
    how = scores_of(run)
    count = run.request.recipe.importance_examples if how == "fitted" else FITTED
    data = f"{task.data.digest} {task.data.task.metric}"
    if how != "inherited":
        data += f" {how} on {count}, edition {EDITION}"

    def build(folder: Path) -> None:
        needs_texts = how != "inherited" or space.compression != (1,)
        scorer = SupernetScorer.of(
            Supernet.from_pretrained(supernet.path / MODEL),
            task.validation if how == "inherited" else guide.judged,
            collator(task.tokenizer),
            task.data.task.metric,
            sample_batches(run, task, count) if needs_texts else (),
            how,
            None if how == "inherited" else guide.supernet,
        )
        scores = open_scores(run.workspace, supernet=supernet.key, data=data)
        part = f"{data} on {settings.fidelity:g}"
        screen = open_scores(run.workspace, supernet=supernet.key, data=part)
        study = _study(runs, goals, space, supernet.key, data)
        if study is not None:
            recalled = {a: s for a, s in study.recall().items() if a not in scores}
            scores.add(list(recalled), list(recalled.values()))
        if run.cluster is not None and run.trials > 1:
            trials = Trials(space, goals, scorer, settings, folder / SCRATCH / "trials")
            run_seeds(trials, run.trials, run.cluster, scores, run.display)
        alone = len({one.request.target for one in runs}) == 1
        warn = run.display.warn
        names = [
            str(one.request.budget) if alone else f"{one.request.budget} on {one.request.target}"
            for one in runs
        ]
        rng = np.random.default_rng(settings.seed)
        pool = build_pool(space, Goals(goals), max_enumerated=settings.max_enumerated, rng=rng)
        by_hand = [designs_for(pool, goal, teacher.architecture) for goal in range(len(goals))]
        tightest = int(np.argmax(pool.usage.sum(axis=1)))
        by_hand.append(designs_below(pool, tightest, teacher.architecture))
        first = list(dict.fromkeys(chain.from_iterable(by_hand)))
        with _evaluator(run, scorer) as evaluator, run.display.board("Search", names) as show:
            results = run_searches(
                space, goals, evaluator if study is None else Recorded(evaluator, study, warn),
                settings, cache=scores, screen=screen, first=first, progress=show,
            )  # fmt: skip
        for architecture, reason in results[0].failed:
            run.display.warn(f"{architecture} could not be scored and is left out: {reason}")
        content = [json.loads(result.to_json()) for result in results]
        (folder / "search.json").write_text(json.dumps(content))

    inputs: dict[str, Any] = {
        "edition": SEARCH,
        "supernet": supernet.key,
        "space": space.to_dict(),
        "scores": how,
        "scoring": EDITION,
        "fitted": count,
        "data": task.data.digest,
        "metric": task.data.task.metric,
        "goals": [
            {
                "profile": file_digest(profile.path / PROFILE),  # one measured anew is another
                "limits": goal.limits.to_dict(),
                "percentile": run.request.budget.percentile,
            }
            for run, profile, goal in zip(runs, profiles, goals, strict=True)
        ],
        "settings": settings.to_dict(),
    }
    if run.cluster is not None and run.trials > 1:
        inputs["trials"] = run.trials
    found = run.workspace.artifact("search", inputs, build)
    _record(runs, goals, space, supernet.key, data, found)
    for goal in range(len(runs)):
        best = read_search(found, goal).best
        run.display.say(
            f"search    {best.architecture}: predicted {best.latency_ms:.3g} ms, "
            f"{task.data.task.metric} {best.score:.4f} {how}{origin(found)}"
        )
    return found


def scores_of(run: Run) -> Scores:
    """With which weights candidates are scored: a supernet that is given is not passed over."""
    how = run.request.recipe.scores
    return "inherited" if how == "fitted" and run.supernet is not None else how


@contextmanager
def _evaluator(run: Run, scorer: Scorer) -> Iterator[Evaluator]:
    """Who scores: this process, or a cluster's."""
    if run.cluster is None:
        yield LocalEvaluator(scorer.build())
        return
    from nas.cluster.evaluator import RayEvaluator

    with RayEvaluator(scorer, run.cluster, warn=run.display.warn) as evaluator:
        yield evaluator


def _study(
    runs: Sequence[Run], goals: Sequence[Goal], space: SearchSpace, supernet: str, data: str
) -> SearchStudy | None:
    """The study that records the search, where one is asked for."""
    run = runs[0]
    if run.study_url is None:
        return None
    from nas.search.study import SearchStudy

    by_target: dict[str, list[Goal]] = {}
    for one, goal in zip(runs, goals, strict=True):
        by_target.setdefault(str(one.request.target), []).append(goal)
    kind = "score" if len(goals) == 1 else "front"
    name = f"{space.name} {kind} {supernet[:8]}"
    return SearchStudy(
        run.study_url, name, space, by_target, supernet=supernet, data=data, warn=run.display.warn
    )


def _record(
    runs: Sequence[Run],
    goals: Sequence[Goal],
    space: SearchSpace,
    supernet: str,
    data: str,
    found: Artifact,
) -> None:
    """Have the study hold all of a search, what it found in the cache or did long ago included."""
    try:
        study = _study(runs, goals, space, supernet, data)
        if study is not None:
            evaluations = read_search(found).evaluations
            study.record([e.architecture for e in evaluations], [e.score for e in evaluations])
    except NasError as error:
        runs[0].display.warn(f"the search is not recorded: {error}")


def goals_of(
    runs: Sequence[Run], profiles: Sequence[Artifact], teacher: Outline
) -> tuple[Goal, ...]:
    return tuple(
        Goal(_latency(run, profile), _limits(run, profile), teacher.shape)
        for run, profile in zip(runs, profiles, strict=True)
    )


def _limits(run: Run, profile: Artifact) -> Limits:
    """What a search keeps to. A speed-up is over the teacher as it was timed with the profile.

    What is left free is the recipe's headroom, and what predictions may fall short by at the
    recipe's confidence.
    """
    request = run.request
    predictor = load_predictor(profile)
    confidence = min(request.recipe.confidence, predictor.max_confidence)
    margin = predictor.margin(confidence, request.budget.percentile)
    return Limits(
        request.budget.limit_ms(teacher_ms(run, profile)),
        request.max_parameters,
        request.max_memory_bytes,
        _kept_free(request.recipe.headroom, margin),
    )


def _kept_free(headroom: float, margin: float) -> float:
    """Share of the budget that a prediction leaves, so that 1 + ``margin`` times it passes.

    A candidate passes if it measures with the headroom to spare.
    """
    return 1 - (1 - headroom) / (1 + max(margin, 0.0))


def search_settings(run: Run) -> SearchSettings:
    settings = run.request.recipe.search
    return replace(settings, seed=settings.seed + run.request.seed)


def _latency(run: Run, profile: Artifact) -> PredictLatency:
    return _predicted(profile, run.request.budget.percentile, run.request.target)


@cache
def _predicted(profile: Artifact, percentile: int, target: Target) -> PredictLatency:
    """One function for all budgets of a target, so that each batch is predicted once."""
    return partial(load_predictor(profile).predict, percentile=percentile, target=target)


def choose(
    run: Run, found: Artifact, goal: int, teacher: Outline, too_slow: Sequence[Trial]
) -> Artifact:
    """Artifact ``choice``: the best architecture that measures within the budget.

    Latency does not hang on the weights, so candidates are timed before any is developed. One
    that is over the budget tells by how much predictions here fall short, and the next is taken
    with so much in reserve.

    Args:
        goal: the run's place among those that the search served.
    """
    result = read_search(found, goal)

    def build(folder: Path) -> None:
        trials = list(too_slow)
        with run.display.stage("Time candidates on the device") as bar:
            while not (trials and trials[-1].met):
                bar(len(trials), run.request.recipe.candidates)
                if len(trials) - len(too_slow) >= run.request.recipe.candidates:
                    raise NasError(unmet(run, trials))
                pick = result.best_within(_cut_ms(result.limits, trials))
                if pick is None:
                    raise NasError(unmet(run, trials))
                trials.append(
                    timed(run, pick.architecture, pick.latency_ms, teacher, headroom=True)
                )
                if not trials[-1].met:
                    run.display.warn(f"{trials[-1]}: trying the next")
        (folder / "choice.json").write_text(json.dumps([trial.to_dict() for trial in trials]))

    inputs = measurer(run) | {
        "search": found.key,
        "goal": goal,
        "target": run.request.target.to_dict(),
        "budget": str(run.request.budget),
        "headroom": run.request.recipe.headroom,
        "candidates": run.request.recipe.candidates,
        "timing_rounds": run.request.recipe.timing_rounds,
        "too_slow": [trial.architecture.to_dict() for trial in too_slow],
    }
    choice = run.workspace.artifact("choice", inputs, build)
    run.display.say(f"choice    {read_trials(choice)[-1]}{origin(choice)}")
    return choice


def _cut_ms(limits: Limits, trials: Sequence[Trial]) -> float:
    """What the next candidate may be predicted at, after what earlier ones measured.

    A trial tells how much more of the budget a model takes than was predicted. Both are shares
    of the budget, which for a speed-up is measured anew beside each trial.
    """
    shortfall = max(
        (t.measured_ms / t.limit_ms / (t.predicted_ms / limits.latency_ms) for t in trials),
        default=1.0,
    )
    slower_than_any = [0.999 * trial.predicted_ms for trial in trials]
    return min([limits.max_latency_ms / max(1.0, shortfall), *slower_than_any])


def unmet(run: Run, trials: Sequence[Trial]) -> str:
    fastest = min(trial.measured_ms for trial in trials)
    headroom = run.request.recipe.headroom
    return (
        f"no scored architecture measures within {run.request.budget} on {run.request.target} "
        f"with {headroom:.0%} to spare (the recipe's headroom); the fastest timed took "
        f"{fastest:.3g} ms: ask for more, or search with more evaluations"
    )


def read_search(artifact: Artifact, goal: int = 0) -> SearchResult:
    """What a search found for one of its goals."""
    content = json.loads((artifact.path / "search.json").read_text())
    return SearchResult.from_json(json.dumps(content[goal]))


def read_trials(artifact: Artifact) -> list[Trial]:
    return [Trial.from_dict(d) for d in json.loads((artifact.path / "choice.json").read_text())]
