"""The figures of a report, drawn from what ``report.json`` holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from nas.report.plots import BudgetMark, front_plot, prediction_plot
from nas.report.record import Report, ShownFront
from nas.report.search_plots import dimensions_plot, hypervolume_plot
from nas.search.constraints import FloatArray
from nas.search.hypervolume import hypervolume_over, reference_point
from supernet.errors import NasError

NEARLY_ALL = 0.99
"""The share of a search's final hypervolume that its report counts the evaluations for."""


def front_figure(shown: ShownFront, budgets: Sequence[BudgetMark] = ()) -> Figure:
    """The front, with the model and the teacher.

    Args:
        shown: of one report.
        budgets: by default the one that the model was made for.
    """
    if not budgets and shown.budget_ms is not None:
        budgets = [BudgetMark(f"{shown.budget_ms:.3g} ms", shown.budget_ms, shown.chosen)]
    return front_plot(
        [point.latency_ms for point in shown.points],
        [point.score for point in shown.points],
        metric=shown.metric,
        budgets=budgets,
        percentile=shown.percentile,
        model=shown.model,
        teacher=shown.teacher,
    )


def dimensions_figure(shown: ShownFront, chosen: Sequence[int] | None = None) -> Figure:
    """The sizes of the front's architectures.

    Args:
        shown: of one report.
        chosen: indices of those to mark; by default the one that was developed.

    Raises:
        NasError: the front is empty.
    """
    developed = [] if shown.chosen is None else [shown.chosen]
    return dimensions_plot(
        [point.architecture for point in shown.points],
        [point.latency_ms for point in shown.points],
        chosen=developed if chosen is None else chosen,
        percentile=shown.percentile,
    )


def hypervolume_figure(searches: Sequence[tuple[str, ShownFront]]) -> Figure:
    """The course of one search, or of several on the same data and target.

    Args:
        searches: label and report of each.

    Raises:
        NasError: a report without evaluations, or too many reports.
    """
    courses = _courses([shown for _, shown in searches])
    labels = [label for label, _ in searches]
    return hypervolume_plot(list(zip(labels, courses, strict=True)))


def evaluations_needed(shown: ShownFront) -> int:
    """After how many evaluations nearly all of the final hypervolume was reached.

    Raises:
        NasError: a report without evaluations.
    """
    (course,) = _courses([shown])
    return int(np.argmax(course >= NEARLY_ALL * course[-1])) + 1


def prediction_figure(report: Report) -> Figure:
    """Predictions of the models that were timed, against the clock."""
    return prediction_plot(
        [
            (
                "calibration model",
                [point.predicted_ms for point in report.calibration],
                [point.measured_ms for point in report.calibration],
            ),
            (
                "candidate",
                [candidate.predicted_ms for candidate in report.candidates],
                [candidate.measured_p50_ms for candidate in report.candidates],
            ),
        ]
    )


def _courses(searches: Sequence[ShownFront]) -> list[FloatArray]:
    """The hypervolume after each evaluation of each search, under one reference point."""
    if not all(any(one.within_caps for one in shown.evaluations) for shown in searches):
        raise NasError("a hypervolume needs a report whose search lists its evaluations")
    counted = [one for shown in searches for one in shown.evaluations if one.within_caps]
    reference = reference_point([one.latency_ms for one in counted], [one.score for one in counted])
    return [
        hypervolume_over(
            # At the reference, what is beyond the caps adds no area, yet counts as an evaluation.
            [one.latency_ms if one.within_caps else reference[0] for one in shown.evaluations],
            [one.score for one in shown.evaluations],
            reference,
        )
        for shown in searches
    ]
