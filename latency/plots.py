"""Plots of a profile, and of a comparison of two devices."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latency.comparison import Comparison
from latency.drawing import PALETTE, canvas, draw_agreement, legend_below, log_axis, style
from latency.kernels import Kernel
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.target import Workload
from supernet.factors import entries

_KINDS = {
    "attention": (PALETTE["front"], "o"),
    "feed_forward": (PALETTE["chosen"], "s"),
    "first_token_attention": (PALETTE["teacher"], "^"),
    "first_token_feed_forward": ("#cc79a7", "v"),
    "factored_attention": (PALETTE["front"], "x"),
    "factored_feed_forward": (PALETTE["chosen"], "+"),
    "first_token_factored_attention": (PALETTE["teacher"], "1"),
    "first_token_factored_feed_forward": ("#cc79a7", "2"),
    "head": ("#e69f00", "D"),
}


def profile_plot(predictor: LatencyPredictor) -> Figure:
    """Three panels: predictions and measurements, errors and their floor, times of kernels.

    In the first two panels, each model is predicted from all other measurements.
    """
    with style():
        figure = Figure(figsize=(12.6, 4.2), layout="constrained", facecolor=PALETTE["surface"])
        left, middle, right = figure.subplots(1, 3)
        draw_agreement(
            left,
            [("model drawn at random", *predictor.held_out())],
            x_label="predicted from all other measurements (ms)",
            y_label="measured (ms)",
        )
        _draw_errors(middle, predictor)
        _draw_kernels(right, predictor.profile)
        for axes in (left, middle, right):
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="upper left")
    return figure


def comparison_plot(comparison: Comparison, first: str, second: str) -> Figure:
    """Ratio of predicted latencies, second device over first, by latency on the first."""
    with style():
        figure, axes = canvas()
        layers = [architecture.num_layers for architecture in comparison.architectures]
        ratio = comparison.second_ms / comparison.first_ms
        dots = axes.scatter(comparison.first_ms, ratio, s=14, c=layers, cmap="viridis", zorder=3)
        axes.axhline(
            comparison.ratio, color=PALETTE["chosen"], linewidth=1,
            label=f"mean ratio {comparison.ratio:.2f}",
        )  # fmt: skip
        bar = figure.colorbar(dots, label="layers")
        bar.set_ticks([float(number) for number in sorted(set(layers))])
        log_axis(axes, "x")
        axes.set_ylim(0.9 * ratio.min(), 1.1 * ratio.max())
        axes.set_xlabel(f"predicted on {first} (ms)")
        axes.set_ylabel(f"{second} over {first}")
        axes.set_title(str(comparison.workload), fontsize=9)
        legend_below(figure, columns=1)
    return figure


def multiply_adds(kernel: Kernel, workload: Workload) -> int:
    """Multiply-adds of a kernel's matrix products; 0 if it has none.

    >>> multiply_adds(Kernel("feed_forward", (256, 1024)), Workload(1, 64))
    33554432
    """
    batch, sequence = workload
    if not kernel.sizes or kernel.kind == "embedding":
        return 0
    hidden = kernel["hidden_size"]
    if kernel.kind == "head":
        return batch * hidden**2
    first = kernel.kind.startswith("first_token")
    rows = batch if first else batch * sequence
    if kernel.kind.endswith("feed_forward"):
        return rows * 2 * entries(hidden, kernel["intermediate_size"], kernel.layer.compression)
    qkv = kernel["qkv_size"]
    if "factored" in kernel.kind:
        products = 4 * entries(hidden, qkv, kernel.layer.compression)
        formed = batch * (sequence - 1) * products // 2 if first else 0  # keys and values of others
        return rows * (products + 2 * sequence * qkv) + formed
    mixing = kernel["num_heads"] * hidden if first else qkv
    return rows * (4 * hidden * qkv + 2 * sequence * mixing)


def _draw_errors(axes: Axes, predictor: LatencyPredictor) -> None:
    """Errors of predictions, and of a second measurement, by latency."""
    predicted, measured = predictor.held_out()
    first, second = predictor.repeated()
    errors, floor = 100 * (predicted / measured - 1), 100 * (second / first - 1)
    axes.axhspan(-10, 10, color=PALETTE["band"], linewidth=0)
    axes.axhline(0, color=PALETTE["muted"], linewidth=0.8)
    axes.scatter(measured, errors, s=14, color=PALETTE["front"], label="predicted", zorder=3)
    axes.scatter(
        first, floor, s=26, marker="D", facecolor="none", edgecolor=PALETTE["chosen"],
        label="measured again: the floor", zorder=4,
    )  # fmt: skip
    worst = np.abs(np.concatenate([errors, floor, [12.0]])).max()
    axes.set_ylim(-1.1 * worst, 1.4 * worst)  # room for the legend
    log_axis(axes, "x")
    axes.set_xlabel("measured (ms)")
    axes.set_ylabel("off by (%)")


def _draw_kernels(axes: Axes, profile: Profile) -> None:
    """Milliseconds of each measured kernel, by its multiply-adds."""
    points: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _KINDS}
    for one, latency in profile.counted:
        kernel = one.subject.what
        if isinstance(kernel, Kernel) and kernel.kind in points:
            work = multiply_adds(kernel, one.subject.workload) / 1e6
            points[kernel.kind].append((work, latency.steady_ms / one.subject.copies))
    for kind, (colour, marker) in _KINDS.items():
        if points[kind]:
            across, up = np.array(points[kind]).T
            label = kind.replace("_", " ")
            axes.scatter(across, up, s=16, color=colour, marker=marker, label=label, zorder=3)
    for axis in ("x", "y"):
        log_axis(axes, axis)
    axes.set_xlabel("million multiply-adds")
    axes.set_ylabel("measured of a kernel (ms)")
