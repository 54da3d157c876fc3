"""The two pictures of a result: the front of architectures, and predictions against the clock."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike, NDArray

from latency.drawing import PALETTE, canvas, draw_agreement, legend_below, log_axis, style
from nas.tasks.metrics import is_share

Point = tuple[float, float]


class BudgetMark(NamedTuple):
    """A budget to draw on a front.

    Args:
        label: what it is called there.
        ms: the latency asked for.
        chosen: index of the architecture that answers it, if it is on the front.
    """

    label: str
    ms: float
    chosen: int | None = None


def front_plot(
    latencies_ms: ArrayLike,
    scores: ArrayLike,
    *,
    metric: str,
    budgets: Sequence[BudgetMark] = (),
    percentile: int = 50,
    model: Point | None = None,
    teacher: Point | None = None,
) -> Figure:
    """Score against latency for the architectures of a front.

    Args:
        latencies_ms: (N,) predicted latency of each architecture.
        scores: (N,) the validation score that its developed model is expected to have.
        metric: name of the score, for the axis.
        budgets: what was asked for; of several, each bears its label above the axes and a
            thread to its architecture.
        percentile: of all latencies.
        model: (measured latency in ms, score) of the developed model.
        teacher: (measured latency in ms, score) of the teacher.
    """
    latency, score = np.asarray(latencies_ms, float), np.asarray(scores, float)
    order = np.argsort(latency)
    rings = sorted({mark.chosen for mark in budgets if mark.chosen is not None})

    with style():
        figure, axes = canvas()
        axes.plot(
            latency[order],
            np.maximum.accumulate(score[order]) if len(score) else score,
            color=PALETTE["front"],
            drawstyle="steps-post",
            linewidth=1.2,
            alpha=0.6,
        )
        if len(score):
            axes.scatter(latency, score, s=14, color=PALETTE["front"], label="expected", zorder=3)
        if rings:
            axes.scatter(
                latency[rings],
                score[rings],
                s=90,
                facecolor="none",
                edgecolor=PALETTE["chosen"],
                linewidth=1.6,
                label="chosen",
                zorder=4,
            )
        if model is not None:
            axes.scatter(
                *model, s=110, marker="*", color=PALETTE["chosen"], label="developed", zorder=5
            )
        if teacher is not None:
            axes.scatter(
                *teacher, s=42, marker="D", color=PALETTE["teacher"], label="teacher", zorder=4
            )
        _draw_budgets(axes, budgets, latency, score)
        log_axis(axes, "x")
        axes.set_xlabel(f"latency, p{percentile} (ms)")
        axes.set_ylabel(metric.replace("_", " "))
        if is_share(metric):
            axes.set_ylabel(f"{metric} (%)")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
        legend_below(figure, columns=2)
    return figure


def _draw_budgets(
    axes: Axes,
    budgets: Sequence[BudgetMark],
    latency_ms: NDArray[np.float64],
    score: NDArray[np.float64],
) -> None:
    """A line each: one alone is named in the legend, several where they stand."""
    dashes: dict[str, Any] = {"color": PALETTE["ink"], "linestyle": (0, (4, 3)), "linewidth": 1}
    if len(budgets) == 1:
        axes.axvline(budgets[0].ms, **dashes, label=f"budget, {budgets[0].label}")
        return
    for row, mark in enumerate(budgets):
        axes.axvline(mark.ms, **dashes, label="" if row else "budgets")
        axes.annotate(
            mark.label,
            (mark.ms, 1.01),
            xycoords=axes.get_xaxis_transform(),
            rotation=60,  # so that neighbours do not run into each other
            rotation_mode="anchor",
            fontsize=8,
        )
        if mark.chosen is not None:
            reach = [latency_ms[mark.chosen], mark.ms]
            level = [score[mark.chosen]] * 2
            axes.plot(reach, level, color=PALETTE["chosen"], linewidth=1, linestyle="dotted")


def prediction_plot(groups: Sequence[tuple[str, ArrayLike, ArrayLike]]) -> Figure:
    """Measured against predicted latency, with the line of equality and 10% on either side.

    Args:
        groups: up to two of (label, predicted (N,), measured (N,)), both in ms.
    """
    with style():
        figure, axes = canvas()
        draw_agreement(axes, groups, x_label="predicted p50 (ms)", y_label="measured p50 (ms)")
        legend_below(figure, columns=3)
    return figure


def inline_svg(figure: Figure, description: str) -> str:
    """The figure as an ``<svg>`` element whose colours are CSS variables named as in ``PALETTE``.

    Text stays text, so that it can be selected, read aloud and takes the page's font.
    """
    buffer = io.StringIO()
    with style():
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for name, colour in PALETTE.items():
        svg = re.sub(colour, f"var(--{name})", svg, flags=re.IGNORECASE)
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    # The viewBox keeps the proportions; the page sets the width.
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
