"""The stages that choose: the search, and the candidate that measures within the budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nas.device import PROFILE, Trial, load_predictor, read_latency, timed
from nas.evaluate import accelerator, collator, score
from nas.export import MODEL
from nas.learning import EncodedTask
from nas.manifest import file_digest
from nas.request import Run, origin
from nas.search.constraints import FloatArray, Limits
from nas.search.result import SearchResult
from nas.search.score_cache import ScoreCache
from nas.search.search import SearchProgress, run_search
from nas.teacher import outline
from nas.workspace import Artifact
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.space import SearchSpace


def search(
    run: Run,
    space: SearchSpace,
    supernet: Artifact,
    profile: Artifact,
    baseline: Artifact,
    task: EncodedTask,
) -> Artifact:
    """Artifact ``search``: the scored architectures and the front, for this budget."""
    budget = run.request.budget
    budget_ms = budget.limit_ms(read_latency(baseline).at(budget.percentile))
    limits = Limits(
        budget_ms,
        run.request.max_parameters,
        run.request.max_memory_bytes,
        run.request.recipe.headroom,
    )
    settings = run.request.recipe.search
    settings = replace(settings, seed=settings.seed + run.request.seed)
    _, shape = outline(supernet.path / MODEL)

    def predicted_ms(batch: ArchitectureBatch) -> FloatArray:
        return load_predictor(profile).predict(batch, budget.percentile)

    def build(folder: Path) -> None:
        device = accelerator()
        weights = Supernet.from_pretrained(supernet.path / MODEL).eval().to(device)
        collate = collator(task.tokenizer)

        def validation_scores(architectures: Sequence[Architecture]) -> list[float]:
            return [
                score(
                    lambda batch: weights(**batch, architecture=architecture).logits,  # noqa: B023
                    task.validation, collate, device, task.data.task.metric,
                )
                for architecture in architectures
            ]  # fmt: skip

        scores = ScoreCache(
            run.workspace.root / "scores.jsonl", supernet=supernet.key, data=task.data.digest
        )
        with run.display.stage("Search") as bar:

            def show(progress: SearchProgress) -> None:
                bar(progress.scored, progress.planned)
                if progress.best_score is not None:
                    bar.note(f"best {progress.best_score:.4f}")

            result = run_search(
                space, predicted_ms, validation_scores, limits,
                settings, cache=scores, shape=shape, progress=show,
            )  # fmt: skip
        (folder / "search.json").write_text(result.to_json())

    inputs = {
        "supernet": supernet.key,
        "profile": file_digest(profile.path / PROFILE),  # one measured anew is another
        "data": task.data.digest,
        "limits": limits.to_dict(),
        "percentile": budget.percentile,
        "settings": settings.to_dict(),
    }
    found = run.workspace.artifact("search", inputs, build)
    best = read_search(found).best
    run.display.say(
        f"search    {best.architecture}: predicted {best.latency_ms:.3g} ms, "
        f"{task.data.task.metric} {best.score:.4f} inherited{origin(found)}"
    )
    return found


def choose(
    run: Run,
    found: Artifact,
    teacher: Artifact,
    too_slow: Sequence[Trial],
) -> Artifact:
    """Artifact ``choice``: the best architecture that measures within the budget.

    Latency does not hang on the weights, so candidates are timed before any is developed. One
    that is over the budget tells by how much predictions here fall short, and the next is taken
    with so much in reserve.
    """
    result = read_search(found)

    def build(folder: Path) -> None:
        trials = list(too_slow)
        with run.display.stage("Time candidates on the device") as bar:
            while not (trials and trials[-1].met):
                bar(len(trials), run.request.recipe.candidates)
                if len(trials) - len(too_slow) >= run.request.recipe.candidates:
                    raise NasError(_unmet(run, trials))
                reserve = min((t.limit_ms / t.measured_ms for t in trials), default=1.0)
                limit_ms = min(
                    [result.limits.max_latency_ms * reserve]
                    + [0.999 * trial.predicted_ms for trial in trials]
                )
                pick = result.best_within(limit_ms)
                if pick is None:
                    raise NasError(_unmet(run, trials))
                trials.append(
                    timed(run, pick.architecture, pick.latency_ms, teacher, headroom=True)
                )
                if not trials[-1].met:
                    run.display.warn(f"{trials[-1]}: trying the next")
        (folder / "choice.json").write_text(json.dumps([trial.to_dict() for trial in trials]))

    inputs = {
        "search": found.key,
        "target": run.request.target.to_dict(),
        "budget": str(run.request.budget),
        "headroom": run.request.recipe.headroom,
        "candidates": run.request.recipe.candidates,
        "too_slow": [trial.architecture.to_dict() for trial in too_slow],
    }
    choice = run.workspace.artifact("choice", inputs, build)
    run.display.say(f"choice    {read_trials(choice)[-1]}{origin(choice)}")
    return choice


def _unmet(run: Run, trials: Sequence[Trial]) -> str:
    fastest = min(trial.measured_ms for trial in trials)
    return (
        f"no scored architecture measures within {run.request.budget} on {run.request.target}; "
        f"the fastest timed took {fastest:.3g} ms: ask for more, or search with more evaluations"
    )


def read_search(artifact: Artifact) -> SearchResult:
    return SearchResult.from_json((artifact.path / "search.json").read_text())


def read_trials(artifact: Artifact) -> list[Trial]:
    return [Trial.from_dict(d) for d in json.loads((artifact.path / "choice.json").read_text())]
