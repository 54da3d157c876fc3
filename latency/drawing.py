"""The look of all plots: colours, canvas, axes.

Drawn with matplotlib's object interface, which keeps no global figures. Colours are Okabe and
Ito's, told apart by people with any colour vision; shapes differ as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from supernet.errors import NasError

# Light-mode colours by role; `nas.report.plots.inline_svg` turns each into a CSS variable
# of that name.
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

Series = tuple[str, ArrayLike, ArrayLike]
"""Label, abscissas and ordinates, (N,) each."""


@contextmanager
def style() -> Iterator[None]:
    """Within, plots are drawn in this style."""
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


def canvas() -> tuple[Figure, Axes]:
    """A figure of one panel."""
    figure = Figure(figsize=(4.6, 3.9), layout="constrained", facecolor=PALETTE["surface"])
    axes = figure.add_subplot(facecolor="none")
    return figure, axes


def legend_below(figure: Figure, *, columns: int) -> None:
    """Put the legend below the axes, where it covers no point."""
    figure.legend(loc="outside lower center", ncols=columns)


def log_axis(axes: Axes, name: str, *, most_labels: int = 9) -> None:
    """A logarithmic axis with plain figures, drawn after its points: 1, 2, 5, 10, ...

    On less than half a decade that would leave an axis with one label or none, so there the ticks
    are evenly spaced values; where labels have no room, they are 1, 3, 10, ... or powers of ten.
    """
    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
    steps: tuple[tuple[float, ...], ...] = ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
    decades = np.log10(high / low)
    subs = next((s for s in steps if len(s) * decades <= most_labels), steps[-1])
    few = MaxNLocator(min(5, most_labels))
    axis.set_major_locator(few if high < 5 * low else LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_agreement(axes: Axes, series: Sequence[Series], *, x_label: str, y_label: str) -> None:
    """Plot two estimates of the same milliseconds, with the line of equality and a band of 10%.

    Args:
        series: up to two, the first as dots, the second as stars.
    """
    points = [np.ravel(column).astype(float) for _, *columns in series for column in columns]
    values = np.concatenate([np.empty(0), *points])
    low, high = (values.min() / 1.3, values.max() * 1.3) if len(values) else (0.1, 10.0)
    line = np.array([low, high])
    axes.fill_between(
        line, line * 0.9, line * 1.1, color=PALETTE["band"], linewidth=0, label="within 10%"
    )
    axes.plot(line, line, color=PALETTE["muted"], linewidth=0.8)
    for (label, across, up), colour, marker in zip(
        series, (PALETTE["front"], PALETTE["chosen"]), ("o", "*"), strict=False
    ):
        axes.scatter(
            np.asarray(across, float),
            np.asarray(up, float),
            s=14 if marker == "o" else 90,
            marker=marker,
            color=colour,
            label=label,
            zorder=3,
        )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    for axis in ("x", "y"):
        log_axis(axes, axis)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def check_plot(path: Path) -> None:
    """Refuse the path of a plot that could not be written, before the work that it shows.

    Raises:
        NasError: another form than PNG, SVG or PDF, or no such folder.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise NasError(f"plot {path} must end in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise NasError(f"plot {path}: there is no folder {path.absolute().parent}")
