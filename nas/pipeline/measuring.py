"""The stages that measure: the profile, candidates beside the teacher, the finished model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from latency.asked import ProfileAsked
from latency.device import Device
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.profile_rows import VERSION
from latency.profiler import Status
from latency.target import Target
from nas.models.outline import Outline
from nas.pipeline.recipe import Recipe
from nas.pipeline.request import Aim
from nas.pipeline.stage import Stage
from nas.store.manifest import SCRATCH
from nas.store.result_folder import MODEL, ONNX
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.errors import NasError
from supernet.space import SearchSpace

PROFILE = "profile.json"
TEACHER = "teacher.json"
"""Beside a profile: the teacher's milliseconds, by percentile."""


def check_target(target: Target) -> None:
    """Refuse a target that no model can be handed over for.

    Raises:
        NasError: a dtype that models are not scored in, or lengths that one model cannot serve.
    """
    if target.dtype == "int8":
        raise NasError(
            f"target {target}: models are scored and exported with floating-point weights; for "
            "dtype int8 there are only profiles and predictions (`latency profile`)"
        )
    if target.lengths and target.runtime in ("torch-compile", "torch-cuda-graphs"):
        raise NasError(
            f"target {target}: a model of {target.runtime} serves one length; give no lengths"
        )


def measurer(device: Device) -> dict[str, str]:
    """What tells a measurement from those of other devices, among a stage's inputs."""
    return {"measured_by": device.identity} if device.identity else {}


def profile_stage(
    aim: Aim, space: SearchSpace, teacher: Outline, recipe: Recipe, seed: int
) -> Stage:
    """Stage ``profile``: the measured kernels and models of the target, and the teacher's time.

    Its build raises NasError for a machine that cannot be measured steadily, or that is another,
    or has other software, than the one that was asked.
    """
    target, shape, device = aim.target, teacher.shape, aim.device
    fingerprint = device.fingerprint(target)

    def build(folder: Path, display: Display) -> None:
        scratch = folder / SCRATCH / PROFILE
        with display.bar(f"Profile {target}") as bar:

            def show(status: Status) -> None:
                bar(status.share, 1.0)
                if status.error_percent is not None:
                    bar.note(f"{status.measured} timed, {status.error_percent:.1f}% off")

            asked = ProfileAsked(
                target=target,
                space=space,
                shape=shape,
                seconds=recipe.profile_s,
                seed=seed,
                count_disturbed=recipe.count_disturbed,
            )
            profile = device.profile(asked, path=scratch, progress=show)
        for warning in profile.warnings():
            display.warn(f"profile   {warning}")
        try:
            profile.check_steady()
        except NasError:
            scratch.unlink(missing_ok=True)  # or the next run would go on from it
            raise
        if differences := fingerprint.differences(profile.fingerprint):
            scratch.unlink(missing_ok=True)
            raise NasError(
                f"device of target {target} changed while it was measured "
                f"({'; '.join(differences)}): retry the search"
            )
        profile.save(folder / PROFILE)
        with display.bar("Time the teacher"):
            times = time_teacher(aim, space, teacher, profile, recipe.timing_rounds)
            (folder / TEACHER).write_text(json.dumps(times))

    def lines(folder: Path) -> list[str]:
        errors = load_predictor(folder).errors()
        return [
            f"device    {target}: predictions {errors.mape_percent:.1f}% off on average, where "
            f"measuring again is {errors.floor_mape_percent:.1f}% off"
        ]

    inputs = measurer(device) | {
        "format": VERSION,
        "target": target.to_dict(),
        "space": space.to_dict(),
        "shape": asdict(shape),
        "teacher": teacher.architecture.to_dict(),
        "seconds": recipe.profile_s,
        "count_disturbed": recipe.count_disturbed,
        "device": fingerprint.to_dict(),
        "seed": seed,
    }
    return Stage(name="profile", edition=1, inputs=inputs, build=build, lines=lines)


def time_teacher(
    aim: Aim, space: SearchSpace, teacher: Outline, profile: Profile, rounds: int
) -> dict[str, float]:
    """The teacher's milliseconds at the pace of a profile, by percentile.

    It may be far larger than anything that the profile holds, so it is timed and not predicted:
    beside the largest of the space, whose prediction tells by how much the pace has changed.
    """
    largest = space.largest
    theirs, reference = aim.device.time(
        [teacher.architecture, largest], aim.target, teacher.shape, rounds=rounds
    )
    predictor = LatencyPredictor(profile).fit()
    predicted_ms = float(predictor.predict([largest], target=aim.target)[0])
    pace = predicted_ms / reference.p50_ms
    return {str(percentile): theirs.at(percentile) * pace for percentile in (50, 95)}


def teacher_ms(profile: Path, percentile: int) -> float:
    """The teacher's milliseconds that stage ``profile`` timed, from its folder."""
    by_percentile = json.loads((profile / TEACHER).read_text())
    return float(by_percentile[str(percentile)])


@cache
def load_predictor(profile: Path) -> LatencyPredictor:
    """The predictor of a profile in its stage's folder; fitted once in a process."""
    return LatencyPredictor(Profile.load(profile / PROFILE)).fit()


@dataclass(frozen=True)
class Trial:
    """An architecture timed beside the teacher.

    Args:
        predicted_ms: at the budget's percentile.
        limit_ms: the budget; for a speed-up, by the teacher's latency in the same measurement.
        measured_ms: at the budget's percentile.
        met: whether it kept to the limit; a candidate must leave the recipe's headroom too.
    """

    architecture: Architecture
    predicted_ms: float
    limit_ms: float
    measured_ms: float
    p50_ms: float
    p95_ms: float
    teacher_p50_ms: float
    teacher_p95_ms: float
    met: bool

    def __str__(self) -> str:
        over = "over" if self.measured_ms > self.limit_ms else "too near"
        return (
            f"{self.architecture} measures {self.measured_ms:.3g} ms, "
            f"{'within' if self.met else over} the budget of {self.limit_ms:.3g} ms"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"architecture": self.architecture.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trial:
        return cls(**data | {"architecture": Architecture.from_dict(data["architecture"])})


@dataclass(frozen=True)
class Timer:
    """Times models beside the teacher, and judges them by a budget.

    Args:
        rounds: blocks of calls that are timed of each model.
        headroom: share of the budget that a candidate must leave free.
    """

    aim: Aim
    teacher: Outline
    rounds: int
    headroom: float

    @property
    def inputs(self) -> dict[str, Any]:
        """What decides its judgement, among a stage's inputs."""
        return measurer(self.aim.device) | {
            "target": self.aim.target.to_dict(),
            "budget": str(self.aim.budget),
            "headroom": self.headroom,
            "timing_rounds": self.rounds,
        }

    def timed(
        self, architecture: Architecture, predicted_ms: float, model: Path | None = None
    ) -> Trial:
        """One candidate, or the finished ``model`` of an architecture, timed.

        A miss is measured once more before it counts: machines have slow moments.
        """
        for _ in range(2):
            (trial,) = self._timed(
                [model or architecture],
                [architecture],
                [predicted_ms],
                0.0 if model else self.headroom,
            )
            if trial.met:
                break
        return trial

    def timed_together(
        self, architectures: Sequence[Architecture], predicted_ms: Sequence[float]
    ) -> list[Trial]:
        """Several candidates, timed side by side."""
        return self._timed(architectures, architectures, predicted_ms, self.headroom)

    def _timed(
        self,
        models: Sequence[Architecture | Path],
        architectures: Sequence[Architecture],
        predicted_ms: Sequence[float],
        spare: float,
    ) -> list[Trial]:
        budget = self.aim.budget
        *found, theirs = self.aim.device.time(
            [*models, self.teacher.architecture],
            self.aim.target,
            self.teacher.shape,
            rounds=self.rounds,
        )
        limit_ms = budget.limit_ms(theirs.at(budget.percentile))
        return [
            Trial(
                architecture=architecture,
                predicted_ms=predicted,
                limit_ms=limit_ms,
                measured_ms=ours.at(budget.percentile),
                p50_ms=ours.p50_ms,
                p95_ms=ours.p95_ms,
                teacher_p50_ms=theirs.p50_ms,
                teacher_p95_ms=theirs.p95_ms,
                met=ours.at(budget.percentile) <= limit_ms * (1 - spare),
            )
            for architecture, predicted, ours in zip(
                architectures, predicted_ms, found, strict=True
            )
        ]

    def verify(self, chosen: Trial, student: Path) -> Trial:
        """Time a finished student's own file, in the form that the target's runtime serves.

        Args:
            student: the folder of its stage.
        """
        form = ONNX if self.aim.target.runtime == "onnxruntime" else MODEL
        return self.timed(chosen.architecture, chosen.predicted_ms, student / form)

    def unmet(self, trials: Sequence[Trial]) -> str:
        """An error's line: that none of some trials met the budget."""
        fastest = min(trial.measured_ms for trial in trials)
        return (
            f"no scored architecture measures within {self.aim.budget} on {self.aim.target} "
            f"with {self.headroom:.0%} to spare (the recipe's headroom); the fastest timed took "
            f"{fastest:.3g} ms: ask for more, or search with more evaluations"
        )
