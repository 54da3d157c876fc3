"""Tables for people: a profile, its predictor's errors, predictions, and comparisons."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Column, Table

from latency.accuracy import Accuracy, PredictorErrors
from latency.candidates import Candidate
from latency.comparison import Comparison
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.terms import FloatArray
from supernet.architecture import Architecture
from supernet.space import SearchSpace

_SAMPLE = 400  # architectures of a space, to know its quartiles


def profile_table(profile: Profile) -> Table:
    """A profile's target, device, grid, spaces and sessions."""
    roles = Counter(one.role for one in profile.measurements)
    counts = ", ".join(f"{roles[role]} {role}" for role in ("chosen", "drawn", "again"))
    models = sum(isinstance(one.subject.what, Architecture) for one in profile.measurements)
    versions = ", ".join(f"{name} {v}" for name, v in profile.fingerprint.versions.items())
    table = Table("profile", "", show_header=False)
    table.add_row("target", str(profile.target))
    table.add_row("device", str(profile.fingerprint))
    table.add_row("clock", profile.fingerprint.governor or "governor unknown")
    table.add_row("software", versions)
    table.add_row("grid", _grid(profile))
    table.add_row("spaces", ", ".join(str(space["name"]) for space in profile.spaces))
    table.add_row(
        "measured",
        f"{len(profile.measurements) - models} kernels and {models} models ({counts}) in "
        f"{profile.seconds:.0f} s, {profile.unsteady_share:.0%} not steady",
    )
    for number, session in enumerate(profile.sessions):
        own = sum(one.session == number for one in profile.measurements)
        table.add_row(
            f"session {number + 1}",
            f"{session.began}: {own} measured, other processes used {session.others_share:.0%}",
        )
    if not profile.complete:
        table.add_row(
            "state", "not complete: `latency profile` goes on with it; a bundle begins anew"
        )
    return table


def error_table(errors: PredictorErrors) -> Table:
    """Errors on models that were each predicted from all others, for each range of latency.

    The last row is the floor: the errors of a first measurement as a prediction of a second.
    """
    table = Table(Column("drawn at random", no_wrap=True), "models", "error", "within 5%",
                  "within 10%", "bias", "tau")  # fmt: skip
    table.add_row("all", *_accuracy(errors))
    for span, own in errors.by_latency.items():
        table.add_row(f"  {span}", *_accuracy(own))
    table.add_row(
        "floor: timed again",
        str(errors.floor_models),
        _shown(errors.floor_mape_percent, ".1f"),
        _shown(100 * errors.floor_within_5_percent, ".0f"),
        _shown(100 * errors.floor_within_10_percent, ".0f"),
    )
    return table


def margin_line(errors: PredictorErrors) -> str:
    """A sentence on how far a latency may exceed its prediction."""
    margin = errors.margin_95_percent
    if margin is None:
        return "Too few models were measured to bound a latency with 95% confidence."
    return f"19 of 20 models take at most {margin:.1f}% more than is predicted for them."


def reference_table(predictor: LatencyPredictor) -> Table:
    """Predicted latencies of each space's smallest, largest and quartile architectures."""
    table = Table("of the space", "architecture", "parameters", "p50 ms", "p95 ms")
    for name, architecture in _references(predictor):
        p50, p95 = (predictor.predict([architecture], p)[0] for p in (50, 95))
        parameters = architecture.parameters(predictor.profile.shape)
        table.add_row(name, str(architecture), f"{parameters:,}", f"{p50:.3g}", f"{p95:.3g}")
    return table


def prediction_table(
    candidates: Sequence[Candidate],
    predicted_ms: FloatArray,
    upper_ms: FloatArray,
    *,
    profile: Profile,
    confidence: float,
) -> Table:
    """Predictions and upper bounds for some architectures."""
    table = Table("architecture", "parameters", "predicted ms", f"at most ms, {confidence:.0%}")
    for one, predicted, upper in zip(candidates, predicted_ms, upper_ms, strict=True):
        parameters = one.architecture.parameters(one.shape or profile.shape)
        table.add_row(str(one.architecture), f"{parameters:,}", f"{predicted:.3g}", f"{upper:.3g}")
    return table


def prediction_rows(
    candidates: Sequence[Candidate],
    predicted_ms: FloatArray,
    upper_ms: FloatArray,
    *,
    profile: Profile,
) -> list[dict[str, Any]]:
    """The content of :func:`prediction_table`, for programs."""
    return [
        {
            "architecture": one.architecture.to_dict(),
            "parameters": one.architecture.parameters(one.shape or profile.shape),
            "predicted_ms": round(float(predicted), 6),
            "upper_ms": round(float(upper), 6),
        }
        for one, predicted, upper in zip(candidates, predicted_ms, upper_ms, strict=True)
    ]


def differences(first: Profile, second: Profile) -> list[str]:
    """The differences of two profiles' targets and machines, a line each."""
    ours, theirs = first.target, second.target
    targets = [
        f"{name}: {getattr(ours, name)}, not {getattr(theirs, name)}"
        for name in ("device", "runtime", "threads", "dtype")
        if getattr(ours, name) != getattr(theirs, name)
    ]
    return targets + first.fingerprint.differences(second.fingerprint)


def comparison_table(comparison: Comparison, first: str, second: str) -> Table:
    """Median latencies and their ratio, for groups of architectures by size."""
    table = Table("parameters", f"{first} ms", f"{second} ms", "ratio", "least to most")
    for group in comparison.groups:
        mean, least, most = group.ratio
        table.add_row(
            " to ".join(f"{number / 1e6:.3g}M" for number in group.parameters),
            f"{group.first_ms:.3g}",
            f"{group.second_ms:.3g}",
            f"{mean:.2f}",
            f"{least:.2f} to {most:.2f}",
        )
    return table


def comparison_line(comparison: Comparison, first: str, second: str) -> str:
    """A sentence on which device is faster, and whether both rank models alike."""
    ratio, tau = comparison.ratio, comparison.kendall_tau
    slower, faster = (second, first) if ratio >= 1 else (first, second)
    order = "carries over" if tau > 0.9 else "mostly carries over" if tau > 0.7 else "does not"
    return (
        f"{faster} is {max(ratio, 1 / ratio):.2f} times as fast as {slower} at "
        f"{comparison.workload}; the order of models {order} (Kendall tau {tau:.2f}, "
        f"{len(comparison.architectures)} architectures)."
    )


def _references(predictor: LatencyPredictor) -> list[tuple[str, Architecture]]:
    """Each space's extremes, and the quartiles of a sample of it by predicted latency."""
    found: list[tuple[str, Architecture]] = []
    for data in predictor.profile.spaces:
        space = SearchSpace.from_dict(data)
        rng = np.random.default_rng(0)
        sample = [space.sample(rng) for _ in range(_SAMPLE)]
        order = np.argsort(predictor.predict(sample))
        prefix = f"{space.name}, " if len(predictor.profile.spaces) > 1 else ""
        found.append((f"{prefix}smallest", space.smallest))
        for share, name in ((0.25, "lower quartile"), (0.5, "median"), (0.75, "upper quartile")):
            found.append((f"{prefix}{name}", sample[order[int(share * _SAMPLE)]]))
        found.append((f"{prefix}largest", space.largest))
    return found


def _accuracy(of: Accuracy) -> tuple[str, ...]:
    return (
        str(of.models),
        _shown(of.mape_percent, ".1f"),
        _shown(100 * of.within_5_percent, ".0f"),
        _shown(100 * of.within_10_percent, ".0f"),
        _shown(of.bias_percent, "+.1f"),
        "" if math.isnan(of.kendall_tau) else f"{of.kendall_tau:.3f}",
    )


def _shown(percent: float, form: str) -> str:
    """A percentage; empty if there is no model."""
    return "" if math.isnan(percent) else f"{percent:{form}}%"


def _grid(profile: Profile) -> str:
    sizes = sorted({one.batch_size for one in profile.workloads})
    lengths = sorted({one.sequence_length for one in profile.workloads})
    if len(sizes) * len(lengths) != len(profile.workloads):  # merged of several grids
        return "; ".join(map(str, profile.workloads))
    return f"batch {', '.join(map(str, sizes))}; sequence {', '.join(map(str, lengths))}"
