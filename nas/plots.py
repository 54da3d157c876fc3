"""The two pictures of a result: the front of architectures, and predictions against the clock.

Drawn with matplotlib's object interface, which keeps no global figures. Colours are Okabe and
Ito's, told apart by people with any colour vision; shapes differ as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

# Light-mode colours by role; `inline_svg` turns each into a CSS variable of that name.
PALETTE = {
    "ink": "#1b1f24",
    "muted": "#667080",
    "rule": "#dfe3e8",
    "front": "#0072b2",
    "chosen": "#d55e00",
    "teacher": "#008564",
    "band": "#e3eef6",
    "surface": "#fefefe",
}
# Metrics in [0, 1] that readers know as percentages; correlations are not.
PERCENT_METRICS = frozenset({"accuracy", "f1"})

Point = tuple[float, float]


def front_plot(
    latencies_ms: ArrayLike,
    scores: ArrayLike,
    *,
    metric: str,
    chosen: int | None = None,
    budget_ms: float | None = None,
    percentile: int = 50,
    model: Point | None = None,
    teacher: Point | None = None,
) -> Figure:
    """Score against latency for the architectures of a front.

    Args:
        latencies_ms: (N,) predicted latency of each architecture.
        scores: (N,) its validation score with inherited weights.
        metric: name of the score, for the axis.
        chosen: index of the architecture that was developed.
        budget_ms: the latency asked for.
        percentile: of all latencies.
        model: (measured latency in ms, score) of the developed model.
        teacher: (measured latency in ms, score) of the teacher.
    """
    latency, score = np.asarray(latencies_ms, float), np.asarray(scores, float)
    order = np.argsort(latency)

    with _style():
        figure, axes = _canvas()
        axes.plot(
            latency[order],
            np.maximum.accumulate(score[order]) if len(score) else score,
            color=PALETTE["front"],
            drawstyle="steps-post",
            linewidth=1.2,
            alpha=0.6,
        )
        if len(score):
            axes.scatter(
                latency, score, s=14, color=PALETTE["front"], label="sub-network", zorder=3
            )
        if chosen is not None:
            axes.scatter(
                latency[chosen],
                score[chosen],
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
        if budget_ms is not None:
            axes.axvline(
                budget_ms,
                color=PALETTE["ink"],
                linestyle=(0, (4, 3)),
                linewidth=1,
                label=f"budget, {budget_ms:.3g} ms",
            )
        _log_axis(axes, "x")
        axes.set_xlabel(f"latency, p{percentile} (ms)")
        axes.set_ylabel(metric.replace("_", " "))
        if metric in PERCENT_METRICS:
            axes.set_ylabel(f"{metric} (%)")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
        _legend_below(figure, columns=2)
    return figure


def prediction_plot(groups: Sequence[tuple[str, ArrayLike, ArrayLike]]) -> Figure:
    """Measured against predicted latency, with the line of equality and 10% on either side.

    Args:
        groups: up to two of (label, predicted (N,), measured (N,)), both in ms.
    """
    with _style():
        figure, axes = _canvas()
        points = [np.ravel(column) for _, *columns in groups for column in columns]
        values = np.concatenate([np.ravel(column).astype(float) for column in points])
        low, high = (values.min() / 1.3, values.max() * 1.3) if len(values) else (0.1, 10.0)
        line = np.array([low, high])
        axes.fill_between(
            line, line * 0.9, line * 1.1, color=PALETTE["band"], linewidth=0, label="within 10%"
        )
        axes.plot(line, line, color=PALETTE["muted"], linewidth=0.8)
        for (label, predicted, measured), colour, marker in zip(
            groups, (PALETTE["front"], PALETTE["chosen"]), ("o", "*"), strict=False
        ):
            axes.scatter(
                np.asarray(predicted, float),
                np.asarray(measured, float),
                s=14 if marker == "o" else 90,
                marker=marker,
                color=colour,
                label=label,
                zorder=3,
            )
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        for axis in ("x", "y"):
            _log_axis(axes, axis)
        axes.set_xlabel("predicted p50 (ms)")
        axes.set_ylabel("measured p50 (ms)")
        _legend_below(figure, columns=3)
    return figure


def inline_svg(figure: Figure, description: str) -> str:
    """The figure as an ``<svg>`` element whose colours are CSS variables named as in ``PALETTE``.

    Text stays text, so that it can be selected, read aloud and takes the page's font.
    """
    buffer = io.StringIO()
    with _style():
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


@contextmanager
def _style() -> Iterator[None]:
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "tailorbert",  # equal figures give equal bytes
        "font.size": 9,
        "text.color": PALETTE["ink"],
        "axes.labelcolor": PALETTE["ink"],
        "axes.edgecolor": PALETTE["muted"],
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": PALETTE["rule"],
        "grid.linewidth": 0.6,
        "xtick.color": PALETTE["muted"],
        "ytick.color": PALETTE["muted"],
        "legend.fontsize": 8,
        "legend.frameon": False,
    }
    with mpl.rc_context(settings):
        yield


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.9), layout="constrained", facecolor=PALETTE["surface"])
    axes = figure.add_subplot(facecolor="none")
    return figure, axes


def _legend_below(figure: Figure, *, columns: int) -> None:
    """Outside the axes, where it covers no point."""
    figure.legend(loc="outside lower center", ncols=columns)


def _log_axis(axes: Axes, name: str) -> None:
    """A logarithmic axis with plain figures, drawn after its points: 1, 2, 5, 10, ...

    On less than half a decade that would leave an axis with one label or none, so there the ticks
    are evenly spaced values.
    """
    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
    narrow = high < 5 * low
    axis.set_major_locator(MaxNLocator(5) if narrow else LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
