"""What a run tells of its result beside the model: the content of ``report.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nas.data.summary import DataSummary
from nas.search.front import ArchitectureInJson, Point
from supernet.errors import NasError, error_line


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the search learned by one evaluation.

    Args:
        latency_ms: predicted, at the budget's percentile.
        score: that the developed model is expected to have on validation data, by this evaluation.
        smoothed_score: weighed against those of similar architectures; by this the best is chosen.
        within_caps: whether it may be on the front, which has no place for what is too large.
    """

    architecture: ArchitectureInJson
    latency_ms: float
    score: float
    smoothed_score: float
    within_caps: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture that was timed on the device, in the order tried, and whether it was met."""

    architecture: ArchitectureInJson
    predicted_ms: float
    measured_p50_ms: float
    met: bool


@dataclass(frozen=True, slots=True)
class Raced:
    """An architecture that learnt in a race, and its validation scores: fitted, then by rung."""

    architecture: ArchitectureInJson
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A whole model that was timed to check the predictor."""

    predicted_ms: float
    measured_ms: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a reader of the result may ask.

    Args:
        budget_ms: latency asked for, at ``budget_percentile`` (50 or 95) on ``target``.
        target: what a latency depends on besides the architecture, as ``Target.to_dict()``.
        architecture: of the model handed over.
        predicted_p50_ms, measured_p50_ms, measured_p95_ms, teacher_p50_ms,
            teacher_p95_ms: on ``target``.
        metric: name of ``score`` and ``teacher_score``, both on the data's ``split``.
        stages: seconds that each stage took, in order; 0 where its artifact was there already.
        versions: of the packages and of Python.
        baseline_score: what the constant answer that scores best does on ``split``; None in reports
            of older versions, as are the next two.
        above_baseline, teacher_above_baseline: whether the score is above that beyond chance; None
            too where ``split`` has one label alone, which tells nothing.
        warnings: what is to be said against the result, a line each.
        data: the data set in words.
        data_summary: what was read of it, and what may be amiss; None in reports of older versions.
        device: the device's fingerprint.
        settings: the recipe as it was run; nested mappings are shown by the path to a value.
        front: the non-dominated architectures that the search found.
        evaluations: all that the front is drawn from, oldest first; earlier searches' as well.
        candidates: what was timed on the device, the last being the model handed over.
        race: who learnt in a race, the winner first; empty without one.
        expected_deviation: of a developed model's score about the expected one, one standard
            deviation; None in reports of older versions.
        calibration: whole models timed to check the predictor.
        predictor_errors: the predictor's error figures beside the repeatability floor.

    Raises:
        NasError: a figure that no run can give, e.g. a latency that is not above zero.
    """

    budget_ms: float
    budget_percentile: int
    target: Mapping[str, Any]
    architecture: ArchitectureInJson
    predicted_p50_ms: float
    measured_p50_ms: float
    measured_p95_ms: float
    teacher_p50_ms: float
    teacher_p95_ms: float
    metric: str
    score: float
    teacher_score: float
    split: str
    parameters: int
    teacher_parameters: int
    stages: Mapping[str, float]
    seed: int
    versions: Mapping[str, str]
    data: str
    device: Mapping[str, Any]
    settings: Mapping[str, Any]
    front: tuple[Point, ...] = ()
    evaluations: tuple[Evaluated, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    race: tuple[Raced, ...] = ()
    expected_deviation: float | None = None
    baseline_score: float | None = None
    above_baseline: bool | None = None
    teacher_above_baseline: bool | None = None
    warnings: tuple[str, ...] = ()
    data_summary: DataSummary | None = None
    calibration: tuple[Calibration, ...] = ()
    predictor_errors: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.budget_percentile not in (50, 95):
            raise NasError(f"budget_percentile must be 50 or 95, not {self.budget_percentile!r}")
        for name in (
            "budget_ms",
            "predicted_p50_ms",
            "measured_p50_ms",
            "measured_p95_ms",
            "teacher_p50_ms",
            "teacher_p95_ms",
            "parameters",
            "teacher_parameters",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise NasError(f"{name} must be a number above 0, not {value!r}")
        for name in ("score", "teacher_score"):
            if not math.isfinite(getattr(self, name)):
                raise NasError(f"{name} must be a finite number, not {getattr(self, name)!r}")

    @property
    def measured_ms(self) -> float:
        """The measured latency at the budget's percentile."""
        return self.measured_p50_ms if self.budget_percentile == 50 else self.measured_p95_ms

    @property
    def teacher_ms(self) -> float:
        """The teacher's latency at the budget's percentile."""
        return self.teacher_p50_ms if self.budget_percentile == 50 else self.teacher_p95_ms

    @property
    def met(self) -> bool:
        """Whether the measured latency is within the budget."""
        return self.measured_ms <= self.budget_ms

    @property
    def speedup(self) -> float:
        """How many times faster than the teacher, by the medians."""
        return self.teacher_p50_ms / self.measured_p50_ms

    @property
    def share_of_teacher(self) -> float | None:
        """The score over the teacher's; None where this tells nothing: of one that is not above
        zero, and where either is no better than a constant answer.
        """
        if self.teacher_score <= 0 or False in (self.above_baseline, self.teacher_above_baseline):
            return None
        return self.score / self.teacher_score

    def to_dict(self) -> dict[str, Any]:
        """The content of ``report.json``; ``met`` and ``speedup`` included."""
        # Not mode="json", which writes null for what is not finite, where json.dumps refuses it.
        content = _REPORT.dump_python(self, warnings=False)
        return {**content, "met": self.met, "speedup": self.speedup}


@dataclass(frozen=True)
class ShownFront:
    """The part of a report that a search's table and plots show.

    Args:
        points: the front, fastest first.
        evaluations: what it was drawn from, oldest first.
        chosen: index of the developed architecture, where it is on the front.
        percentile: of all latencies here, 50 or 95.
        budget_ms: what was asked for; None on another target than that.
        model, teacher: (measured ms, score on test); None where they were not measured.
        deviation: of developed scores about the expected ones; None where it is not known.
    """

    metric: str
    points: tuple[Point, ...]
    evaluations: tuple[Evaluated, ...]
    chosen: int | None
    percentile: int
    budget_ms: float | None
    model: tuple[float, float] | None
    teacher: tuple[float, float] | None
    deviation: float | None = None

    @classmethod
    def of(cls, report: Report) -> ShownFront:
        """The part of one report."""
        points = tuple(sorted(report.front, key=lambda point: point.latency_ms))
        places = {point.architecture: place for place, point in enumerate(points)}
        return cls(
            metric=report.metric,
            points=points,
            evaluations=report.evaluations,
            chosen=places.get(report.architecture),
            percentile=report.budget_percentile,
            budget_ms=report.budget_ms,
            model=(report.measured_ms, report.score),
            teacher=(report.teacher_ms, report.teacher_score),
            deviation=report.expected_deviation,
        )


_REPORT = TypeAdapter(Report)


def report_of(content: Mapping[str, Any]) -> Report:
    """The report with the content of a ``report.json``.

    Raises:
        ValueError: the content is no report's.
    """
    return _REPORT.validate_python(content)


def read_front(folder: Path) -> ShownFront:
    """The front in the ``report.json`` of a result.

    Raises:
        NasError: no report there, or a damaged one.
    """
    path = folder / "report.json"
    try:
        return ShownFront.of(report_of(json.loads(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise NasError(
            f"{folder} is no result of nas search: report.json cannot be read"
        ) from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = f"{'.'.join(map(str, fault['loc']))}: " if fault["loc"] else ""
        raise NasError(f"{path} is damaged: {where}{fault['msg']}") from error
    except ValueError as error:
        raise NasError(f"{path} is damaged: {error_line(error)}") from error
