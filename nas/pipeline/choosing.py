"""The stage that chooses: the best candidate that measures within the budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nas.pipeline.measuring import Timer, Trial
from nas.pipeline.searching import read_search
from nas.pipeline.stage import Stage
from nas.search.constraints import Limits
from nas.store.workspace import Artifact
from nas.terminal.progress import Display
from supernet.errors import NasError

CHOICE = "choice.json"


def choice_stage(
    found: Artifact, goal: int, timer: Timer, most: int, too_slow: Sequence[Trial]
) -> Stage:
    """Stage ``choice``: the best architecture that measures within the budget.

    Latency does not hang on the weights, so candidates are timed before any is developed. One
    that is over the budget tells by how much predictions here fall short, and the next is taken
    with so much in reserve. Its build raises NasError where no candidate is left.

    Args:
        found: the search.
        goal: the number of the aim among those that the search served.
        most: candidates that are timed at most.
        too_slow: models that were developed already, and measured over the budget.
    """

    def build(folder: Path, display: Display) -> None:
        result, trials = read_search(found.path, goal), list(too_slow)
        with display.bar("Time candidates on the device") as bar:
            while not (trials and trials[-1].met):
                bar(len(trials), most)
                if len(trials) - len(too_slow) >= most:
                    raise NasError(timer.unmet(trials))
                pick = result.best_within(_cut_ms(result.limits, trials))
                if pick is None:
                    raise NasError(timer.unmet(trials))
                trials.append(timer.timed(pick.architecture, pick.latency_ms))
                if not trials[-1].met:
                    display.warn(f"{trials[-1]}: trying the next")
        (folder / CHOICE).write_text(json.dumps([trial.to_dict() for trial in trials]))

    inputs = timer.inputs | {
        "search": found.key,
        "goal": goal,
        "candidates": most,
        "too_slow": [trial.architecture.to_dict() for trial in too_slow],
    }
    return Stage(
        name="choice",
        edition=1,
        inputs=inputs,
        build=build,
        lines=lambda folder: [f"choice    {read_trials(folder)[-1]}"],
    )


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


def read_trials(folder: Path) -> list[Trial]:
    """What stage ``choice`` timed, from its folder; what was chosen comes last, or, before a race,
    the best expected first.
    """
    return [Trial.from_dict(one) for one in json.loads((folder / CHOICE).read_text())]
