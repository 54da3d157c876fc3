"""Result files of benchmarks: how each was come by, and no more than its tables and figures need.

A benchmark's own samples are condensed to what is shown of them; whoever wants more runs it again,
by the command that stands in the file.
"""

from __future__ import annotations

import io
import json
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from latency.atomic import replacing, write_text
from latency.fingerprint import Fingerprint
from latency.options import load_target
from latency.profile import Profile
from latency.target import Target
from latency.timing import Block, Record

DIGITS = 6
"""Significant ones that are kept of a number."""

COLOURS = 64
"""Of a figure: enough for its lines and their smoothed edges."""

PERCENTILES = tuple(range(0, 101, 5))
"""Of a measurement's calls, kept in place of the calls."""

_WIDTH = 100
_PACKAGES = ("numpy", "scipy", "torch", "transformers")


def origin(target: str | Target = "cpu") -> dict[str, Any]:
    """The command of this run, its machine with the versions of packages, and today's date.

    Args:
        target: what of the machine matters, or its name under configs/targets.
    """
    where = load_target(target) if isinstance(target, str) else target
    machine = Fingerprint.of_this_machine(where).to_dict()
    machine["versions"] |= {name: version(name) for name in _PACKAGES if find_spec(name)}
    return {
        "command": _command(sys.argv),
        "machine": machine,
        "platform": platform.platform(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON of rounded numbers, whole or not at all: what fits stands on one line."""
    write_text(path, _text(_rounded(content)) + "\n")


def save_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write a PNG of few colours, a third of the size of matplotlib's own."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=dpi)
    with replacing(path) as temporary:
        Image.open(drawn).convert("RGB").quantize(COLOURS).save(temporary, "PNG", optimize=True)


def condensed(profile: Profile) -> Profile:
    """A profile that predicts the same, with one block of 21 percentiles for each measurement.

    They are those of the calls that count, at the session's pace: the drift of the machine, which a
    predictor divides out of them, is divided out already.
    """
    measured = zip(profile.measurements, profile.latencies, profile.steady, strict=True)
    found = []
    for one, latency, is_steady in measured:
        usual = profile.usual[one.session]
        at_pace = latency.steady_ms / latency.p50_ms * usual.pace_ms / profile.pace_ms
        calls = np.percentile(latency.samples_ms, PERCENTILES) * at_pace
        beside = usual.beside_ms if is_steady else 2 * usual.beside_ms  # which counts as disturbed
        block = Block(tuple(map(_short, calls)), beside, usual.pace_ms, preemptions=0)
        found.append(replace(one, record=Record((block,))))
    return replace(profile, measurements=tuple(found))


def _command(words: Sequence[str]) -> str:
    """The command line of a benchmark, without paths of the machine that it ran on."""
    script, *options = words
    kept: list[str] = []
    for word in options:
        if Path(word.partition("=")[2] or word).is_absolute():
            if kept and kept[-1].startswith("--"):
                kept.pop()
            continue
        kept.append(word)
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *kept])


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):  # NumPy's too
        return _short(value)
    if isinstance(value, Mapping):
        return {str(name): _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value


def _text(value: Any, indent: int = 0) -> str:
    """JSON of one line where it fits, and where it holds numbers alone; else a line an entry."""
    whole = json.dumps(value)
    is_list = isinstance(value, list)
    is_plain = not (is_list or isinstance(value, dict))
    if is_plain or indent + len(whole) <= _WIDTH or (is_list and not _holds_containers(value)):
        return whole
    inner = indent + 1
    if is_list:
        entries = [_text(one, inner) for one in value]
    else:
        entries = [f"{json.dumps(name)}: {_text(one, inner)}" for name, one in value.items()]
    opening, closing = "[]" if is_list else "{}"
    joined = ",\n".join(" " * inner + entry for entry in entries)
    return f"{opening}\n{joined}\n{' ' * indent}{closing}"


def _holds_containers(values: Sequence[Any]) -> bool:
    return any(isinstance(one, dict | list) for one in values)
