"""The stages that measure: the profile, candidates beside the teacher, the finished model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.profile_rows import VERSION
from latency.profiler import Status
from latency.target import Target
from nas.models.teacher import Outline
from nas.pipeline.request import Run, origin
from nas.store.manifest import SCRATCH
from nas.store.result_folder import MODEL, ONNX
from nas.store.workspace import Artifact
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


def measurer(run: Run) -> dict[str, str]:
    """What tells a measurement from those of other devices, among an artifact's inputs."""
    identity = run.device.identity
    return {"measured_by": identity} if identity else {}


def profile_target(run: Run, space: SearchSpace, teacher: Outline) -> Artifact:
    """Artifact ``profile``: the measured kernels and models of the target, and the teacher's time.

    Raises:
        NasError: it cannot be measured steadily, or by another machine or software than was asked.
    """
    target, shape = run.request.target, teacher.shape
    device = run.device.fingerprint(target)

    def build(folder: Path) -> None:
        scratch = folder / SCRATCH / PROFILE
        with run.display.stage(f"Profile {target}") as bar:

            def show(status: Status) -> None:
                bar(status.share, 1.0)
                if status.error_percent is not None:
                    bar.note(f"{status.measured} timed, {status.error_percent:.1f}% off")

            profile = run.device.profile(
                target,
                space,
                shape,
                seconds=run.request.recipe.profile_s,
                seed=run.request.seed,
                count_disturbed=run.request.recipe.count_disturbed,
                path=scratch,
                progress=show,
            )
        for warning in profile.warnings():
            run.display.warn(f"profile   {warning}")
        try:
            profile.check_steady()
        except NasError:
            scratch.unlink(missing_ok=True)  # or the next run would go on from it
            raise
        if differences := device.differences(profile.fingerprint):
            scratch.unlink(missing_ok=True)
            raise NasError(
                f"device of target {target} changed while it was measured "
                f"({'; '.join(differences)}): retry the search"
            )
        profile.save(folder / PROFILE)
        with run.display.stage("Time the teacher"):
            (folder / TEACHER).write_text(json.dumps(time_teacher(run, space, teacher, profile)))

    inputs = measurer(run) | {
        "format": VERSION,
        "target": target.to_dict(),
        "space": space.to_dict(),
        "shape": asdict(shape),
        "teacher": teacher.architecture.to_dict(),
        "seconds": run.request.recipe.profile_s,
        "count_disturbed": run.request.recipe.count_disturbed,
        "device": device.to_dict(),
        "seed": run.request.seed,
    }
    profile = run.workspace.artifact("profile", inputs, build)
    errors = load_predictor(profile).errors()
    run.display.say(
        f"device    {target}: predictions {errors.mape_percent:.1f}% off on average, where "
        f"measuring again is {errors.floor_mape_percent:.1f}% off"
        f"{origin(profile)}"
    )
    return profile


def time_teacher(
    run: Run, space: SearchSpace, teacher: Outline, profile: Profile
) -> dict[str, float]:
    """The teacher's milliseconds at the pace of a profile, by percentile.

    It may be far larger than anything that the profile holds, so it is timed and not predicted:
    beside the largest of the space, whose prediction tells by how much the pace has changed.
    """
    request, largest = run.request, space.largest
    theirs, reference = run.device.time(
        [teacher.architecture, largest],
        request.target,
        teacher.shape,
        rounds=request.recipe.timing_rounds,
    )
    predictor = LatencyPredictor(profile).fit()
    predicted_ms = float(predictor.predict([largest], target=request.target)[0])
    pace = predicted_ms / reference.p50_ms
    return {str(percentile): theirs.at(percentile) * pace for percentile in (50, 95)}


def teacher_ms(run: Run, profile: Artifact) -> float:
    """The teacher's milliseconds, at the budget's percentile, that a profile's stage timed."""
    by_percentile = json.loads((profile.path / TEACHER).read_text())
    return float(by_percentile[str(run.request.budget.percentile)])


@cache
def load_predictor(profile: Artifact) -> LatencyPredictor:
    """The predictor of a profile; fitted once in a process."""
    return LatencyPredictor(Profile.load(profile.path / PROFILE)).fit()


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


def timed(
    run: Run,
    architecture: Architecture,
    predicted_ms: float,
    teacher: Outline,
    *,
    model: Path | None = None,
    headroom: bool,
) -> Trial:
    """Time ``architecture`` (or the finished ``model`` of it) beside the teacher's.

    A miss is measured once more before it counts: machines have slow moments.
    """
    for _ in range(2):
        (trial,) = timed_together(
            run, [model or architecture], [architecture], [predicted_ms], teacher, headroom=headroom
        )
        if trial.met:
            break
    return trial


def timed_together(
    run: Run,
    models: Sequence[Architecture | Path],
    architectures: Sequence[Architecture],
    predicted_ms: Sequence[float],
    teacher: Outline,
    *,
    headroom: bool,
) -> list[Trial]:
    """Time several models side by side, the teacher's among them.

    Args:
        models: finished ones, or the architectures themselves.
        architectures, predicted_ms: of each.
    """
    budget = run.request.budget
    spare = run.request.recipe.headroom if headroom else 0.0
    *found, theirs = run.device.time(
        [*models, teacher.architecture],
        run.request.target,
        teacher.shape,
        rounds=run.request.recipe.timing_rounds,
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
        for architecture, predicted, ours in zip(architectures, predicted_ms, found, strict=True)
    ]


def verify(run: Run, chosen: Trial, student: Artifact, teacher: Outline) -> Trial:
    """Time the finished model's own file."""
    model = exported(student.path, run.request.target)
    with run.display.stage("Verify on the device"):
        return timed(
            run, chosen.architecture, chosen.predicted_ms, teacher, model=model, headroom=False
        )


def exported(folder: Path, target: Target) -> Path:
    """Where the exported model stands in the form that the target's runtime serves."""
    return folder / (ONNX if target.runtime == "onnxruntime" else MODEL)
