"""The pictures of a search show what they are given, in the page's colours."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.axes import Axes

from nas.report import plots
from nas.report.search_plots import dimensions_plot, hypervolume_plot
from supernet.architecture import Architecture, Layer
from supernet.errors import NasError

UNIFORM = [
    Architecture.uniform(num_layers=n, hidden_size=32 * n, num_heads=2, intermediate_size=64 * n)
    for n in (1, 2, 3)
]
MIXED = Architecture(64, (Layer(2, 32, 64), Layer(4, 64, 256, compression=4)))


def panels(architectures: list[Architecture], latencies_ms: list[float]) -> dict[str, Axes]:
    figure = dimensions_plot(architectures, latencies_ms, chosen=[1])
    return {title: axes for axes in figure.axes if (title := axes.get_title(loc="left"))}


def test_each_dimension_follows_the_front_from_fast_to_slow():
    shown = panels([UNIFORM[2], UNIFORM[0], UNIFORM[1]], [9.0, 1.0, 4.0])

    assert set(shown) == {
        "layers", "hidden size", "heads", "query, key and value size", "intermediate size"
    }  # fmt: skip
    line, ring = shown["hidden size"].lines
    assert line.get_xdata().tolist() == [1.0, 4.0, 9.0]
    assert line.get_ydata().tolist() == [32, 64, 96]
    assert (ring.get_xdata().tolist(), ring.get_ydata().tolist()) == ([1.0], [32])


def test_layers_that_differ_are_a_mean_and_a_band():
    shown = panels([UNIFORM[0], MIXED], [1.0, 4.0])

    for title, mean, least, most in [
        ("heads", 3, 2, 4), ("intermediate size", 160, 64, 256), ("compression", 2.5, 1, 4)
    ]:  # fmt: skip
        assert shown[title].lines[0].get_ydata()[1] == mean
        corners = shown[title].collections[0].get_paths()[0].vertices
        assert set(corners[corners[:, 0] == 4.0, 1]) == {least, most}


def test_a_front_may_be_a_single_point(tmp_path):
    dimensions_plot(UNIFORM[:1], [1.0]).savefig(tmp_path / "dimensions.png")


def test_nothing_is_refused():
    with pytest.raises(NasError, match="at least one architecture"):
        dimensions_plot([], [])


def test_searches_share_what_counts_as_whole():
    axes = hypervolume_plot([("one", [0.1, 0.3]), ("other", [0.2, 0.2, 0.4])]).axes[0]

    one, other, _whole = axes.lines
    assert one.get_ydata() == pytest.approx([0.25, 0.75])
    assert other.get_ydata() == pytest.approx([0.5, 0.5, 1.0])
    assert other.get_xdata().tolist() == [1, 2, 3]


def test_searches_that_no_eye_tells_apart_are_refused():
    with pytest.raises(NasError, match="at most 12 searches, not 13"):
        hypervolume_plot([(str(row), [1.0]) for row in range(13)])
    looks = {
        (line.get_color(), str(line.get_linestyle()), line.get_label())
        for line in hypervolume_plot([(str(row), [1.0]) for row in range(12)]).axes[0].lines[:12]
    }
    assert len(looks) == 12


def test_no_area_is_refused():
    with pytest.raises(NasError, match=r"above 0, not 0\.0"):
        hypervolume_plot([("none", np.zeros(3))])


def test_colours_are_left_to_the_page():
    for figure in (
        hypervolume_plot([("a", [0.5, 1.0]), ("b", [0.2, 0.9])]),
        dimensions_plot([UNIFORM[0], MIXED], [1.0, 4.0], chosen=[0]),
    ):
        assert not re.search(r"#[0-9a-f]{6}\b", plots.inline_svg(figure, "of a search"))
