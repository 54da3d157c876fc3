"""The report as files: ``report.json`` to read by program, ``report.html`` by eye."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from latency.atomic import write_text
from nas.data.summary import some
from nas.report import figures as drawings
from nas.report.plots import inline_svg
from nas.report.record import Report, ShownFront
from nas.tasks.metrics import score_in_words


def write(report: Report, folder: Path) -> None:
    """Write ``report.json`` and ``report.html`` into ``folder``, each whole or not at all.

    Raises:
        OSError: the folder cannot be written to.
        ValueError: a figure is not finite, so JSON cannot hold it.
    """
    pages = {
        "report.json": json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n",
        "report.html": render(report),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        write_text(folder / name, text)


def render(report: Report) -> str:
    """The report as one HTML page that needs nothing else: no script, no network."""
    shown = ShownFront.of(report)
    figures = {
        "front": (drawings.front_figure(shown), "Score against latency"),
        "predictions": (
            drawings.prediction_figure(report),
            "Measured against predicted latency",
        ),
    }
    if shown.points:
        figures["dimensions"] = (
            drawings.dimensions_figure(shown),
            "Sizes of the architectures along the front",
        )
    if shown.evaluations:
        figures["hypervolume"] = (
            drawings.hypervolume_figure([("", shown)]),
            "The front's hypervolume after each evaluation",
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, figure=figure_of, rows=rows, some=some)
    return environment.get_template("page.html").render(
        report=report,
        verdict=verdict(report),
        quality=quality(report),
        error_rows=list(error_rows(report.predictor_errors)),
        settings={"seed": report.seed, **report.settings},
        score=lambda value: score_in_words(report.metric, value),
        # A plot's SVG is our own markup, with every word in it escaped by matplotlib.
        svg={name: Markup(inline_svg(*drawn)) for name, drawn in figures.items()},  # noqa: S704
        nearly_all=drawings.NEARLY_ALL,
        needed=drawings.evaluations_needed(shown) if shown.evaluations else None,
    )


def verdict(report: Report) -> str:
    """The budget's half of the result in one sentence, for the page and for the command line."""
    return (
        f"Budget {'met' if report.met else 'missed'}: "
        f"{figure_of(report.measured_ms)} ms measured against "
        f"{figure_of(report.budget_ms)} ms asked (p{report.budget_percentile})."
    )


def quality(report: Report) -> str:
    """The score's half: how good, against the teacher, and how much faster."""
    score = f"{score_in_words(report.metric, report.score)} {report.metric.replace('_', ' ')}"
    if report.share_of_teacher is not None:
        share = f"{report.share_of_teacher:.1%} of the teacher's"
    else:
        share = f"the teacher's is {score_in_words(report.metric, report.teacher_score)}"
        if report.baseline_score is not None:
            share += f", a constant answer's {score_in_words(report.metric, report.baseline_score)}"
    told = f"{score}, {share}, at {report.speedup:.1f}x its speed."
    if report.share_of_teacher is not None and report.share_of_teacher > 1:
        told += " A student above its teacher tells of a teacher that has not learnt enough."
    return told


def error_rows(errors: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The table of a predictor's errors: all models, ranges of latency, and second measurements.

    Args:
        errors: the content of :class:`latency.accuracy.PredictorErrors`; a report of an older
            version may lack some.

    Yields:
        what the row is about, the number of models, the mean error, and the shares within 5% and
        10%; empty where a figure is not known.
    """
    floor = {
        name.removeprefix("floor_"): value
        for name, value in errors.items()
        if name.startswith("floor_")
    }
    ranges = errors.get("by_latency", {})
    named = {"all": errors, **ranges, "measured again": floor}
    for name, row in named.items():
        if row:
            yield (
                name,
                _shown("{:,}", row.get("models")),
                _shown("{:.1f}%", row.get("mape_percent")),
                _shown("{:.0%}", row.get("within_5_percent")),
                _shown("{:.0%}", row.get("within_10_percent")),
            )


def _shown(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)


def figure_of(value: Any) -> str:
    """A value for a table: three significant digits for floats, thousands set apart."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(figure_of, value))
    return str(value)


def duration(seconds: float) -> str:
    """``0.4 s``, ``38 s``, ``8 min 5 s`` or ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def rows(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) pairs of nested mappings, their names put before those within."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from rows(value, f"{prefix}{name} / ")
        else:
            yield f"{prefix}{name}", value
