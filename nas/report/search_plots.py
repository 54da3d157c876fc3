"""How a search went, and what its answers are made of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from latency.drawing import PALETTE, canvas, legend_below, log_axis, style
from supernet.architecture import Architecture
from supernet.errors import NasError

COLOURS = ("front", "chosen", "teacher", "ink")
STROKES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.5)))
PER_LAYER = {
    "num_heads": "heads",
    "qkv_size": "query, key and value size",
    "intermediate_size": "intermediate size",
    "compression": "compression",
}
"""What may differ between layers, in words."""

LINE: dict[str, Any] = {
    "color": PALETTE["front"], "linewidth": 1, "marker": "o", "markersize": 3
}  # fmt: skip
BAND: dict[str, Any] = {"color": PALETTE["band"], "linewidth": 0}
RING: dict[str, Any] = {
    "color": PALETTE["chosen"], "linestyle": "none", "marker": "o", "markersize": 8.5,
    "markerfacecolor": "none", "markeredgewidth": 1.6, "zorder": 4,
}  # fmt: skip


def hypervolume_plot(searches: Sequence[tuple[str, ArrayLike]]) -> Figure:
    """The share of the highest final hypervolume that each search has after each evaluation.

    Args:
        searches: up to twelve of (label, (N,) hypervolume after each evaluation), all of them
            under one reference point.

    Raises:
        NasError: too many searches to tell apart, or none with an area above 0.
    """
    looks = [(PALETTE[colour], stroke) for stroke, colour in product(STROKES, COLOURS)]
    if len(searches) > len(looks):
        raise NasError(f"a plot shows at most {len(looks)} searches, not {len(searches)}")
    volumes = [np.asarray(values, float) for _, values in searches]
    whole = max((float(v.max()) for v in volumes if len(v)), default=0.0)
    if not whole > 0:
        raise NasError(f"the hypervolume that counts as 100% must be above 0, not {whole!r}")

    with style():
        figure, axes = canvas()
        for (label, _), values, (colour, stroke) in zip(searches, volumes, looks, strict=False):
            axes.plot(
                np.arange(1, len(values) + 1),
                values / whole,
                color=colour,
                linestyle=stroke,
                linewidth=1.4,
                drawstyle="steps-post",
                label=label,
            )
        axes.axhline(1.0, color=PALETTE["muted"], linewidth=0.8, zorder=1)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
        axes.set_xlabel("evaluations")
        axes.set_ylabel("hypervolume (% of the final)")
        if len(searches) > 1:
            legend_below(figure, columns=2)
    return figure


def dimensions_plot(
    architectures: Sequence[Architecture],
    latencies_ms: ArrayLike,
    *,
    chosen: Collection[int] = (),
    percentile: int = 50,
) -> Figure:
    """How the sizes of architectures change along a front, one panel each.

    Where layers differ, the line is their mean and the band goes from the least to the most.

    Args:
        architectures: N of them.
        latencies_ms: (N,)
        chosen: indices of those to mark.
        percentile: of all latencies.

    Raises:
        NasError: no architectures.
    """
    if not architectures:
        raise NasError("a plot of dimensions needs at least one architecture")
    latency = np.asarray(latencies_ms, float)
    order = np.argsort(latency)
    found = [architectures[row] for row in order]
    marked = np.isin(order, list(chosen))
    panels = _dimensions(found)

    with style():
        rows = (len(panels) + 1) // 2
        figure = Figure(
            figsize=(4.6, 0.5 + 1.4 * rows), layout="constrained", facecolor=PALETTE["surface"]
        )
        grid = figure.subplots(rows, 2, sharex=True, squeeze=False, subplot_kw={"fc": "none"})
        first, second, *others = grid.ravel()
        odd = len(panels) % 2 == 1  # the cell that is left over takes the legend
        for axes, (name, values) in zip(
            [first, *others] if odd else [first, second, *others], panels.items(), strict=True
        ):
            _draw_dimension(axes, latency[order], values, marked)
            axes.set_title(name, loc="left", fontsize=9)
            log_axis(axes, "x", most_labels=5)
            axes.minorticks_off()
        for axes in grid[-1]:
            axes.set_xlabel(f"latency, p{percentile} (ms)")
        legend = _legend(any((least < most).any() for _, least, most in panels.values()), marked)
        if odd:
            second.axis("off")
            second.legend(handles=legend, loc="center")
        else:
            figure.legend(handles=legend, loc="outside lower center", ncols=len(legend))
    return figure


def _dimensions(architectures: Sequence[Architecture]) -> dict[str, NDArray[np.float64]]:
    """By name: mean, least and most over the layers of N architectures, (3, N)."""
    found = {
        "layers": [[a.num_layers] * 3 for a in architectures],
        "hidden size": [[a.hidden_size] * 3 for a in architectures],
    }
    for field, name in PER_LAYER.items():
        by_layer = [[getattr(layer, field) for layer in a.layers] for a in architectures]
        if field != "compression" or any(a.is_factored for a in architectures):
            found[name] = [[np.mean(values), min(values), max(values)] for values in by_layer]
    return {name: np.array(rows, float).T for name, rows in found.items()}


def _draw_dimension(
    axes: Axes,
    latency_ms: NDArray[np.float64],
    values: NDArray[np.float64],
    marked: NDArray[np.bool_],
) -> None:
    """One panel. ``values`` as in :func:`_dimensions`; all in ascending latency."""
    mean, least, most = values
    axes.fill_between(latency_ms, least, most, **BAND)
    axes.plot(latency_ms, mean, **LINE)
    axes.plot(latency_ms[marked], mean[marked], **RING)
    axes.set_ylim(0, 1.15 * float(most.max()))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _legend(layers_differ: bool, marked: NDArray[np.bool_]) -> list[Artist]:
    line = Line2D([], [], **LINE, label="mean over layers" if layers_differ else "sub-network")
    band = [Patch(**BAND, label="least to most")] if layers_differ else []
    ring = [Line2D([], [], **RING, label="chosen")] if marked.any() else []
    return [line, *band, *ring]
