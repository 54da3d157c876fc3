"""Reads shares, grids of workloads and targets from the text of command-line options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from latency.affinity import default_threads
from latency.target import Target, Workload
from supernet.configs import read_config, read_mapping
from supernet.errors import NasError

_SHARE = re.compile(r"\s*(?P<value>\d+\.?\d*|\.\d+)\s*%\s*")


def parse_share(text: str) -> float:
    """Read a share such as ``"3%"``, which is 0.03.

    Raises:
        NasError: another form, or a share not between 0% and 100%.
    """
    match = _SHARE.fullmatch(text)
    share = float(match["value"]) / 100 if match else 0.0
    if not 0 < share < 1:
        raise NasError(
            f"error {text!r} is not understood; write per cent above 0% and below 100%: '3%'"
        )
    return share


def parse_counts(name: str, text: str) -> tuple[int, ...]:
    """Read whole numbers such as ``"1,8"``, in order, each once.

    Raises:
        NasError: another form. The error names ``name``.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise NasError(
            f"{name} {text!r} is not understood; write whole numbers of at least 1: '64' or "
            "'64,128'"
        )
    return tuple(dict.fromkeys(map(int, parts)))


def load_target(name: str) -> Target:
    """The target of a name under ``configs/targets``, or of a YAML file's path.

    Raises:
        NasError: no such configuration, not YAML, or a key or value that is not accepted.
    """
    return Target.from_dict(read_config("targets", name))


def default_target() -> Target:
    """ONNX Runtime on this machine's usable cores, one sequence of 64 tokens at a time."""
    return Target(threads=default_threads(), batch_size=1, sequence_length=64)


def changed(target: Target, *, lengths: Path | None = None, **given: Any) -> Target:
    """``target`` with the given values instead of its own; None means not given.

    Args:
        lengths: a JSON or YAML file of a histogram, {tokens: texts}.

    Raises:
        NasError: a value that is not accepted, a file of another form, or both lengths and a
            sequence length.
    """
    data = target.to_dict() | {name: value for name, value in given.items() if value is not None}
    if lengths is not None:
        if given.get("sequence_length") is not None:
            raise NasError("give either --sequence or --lengths, not both")
        del data["sequence_length"]
        data["lengths"] = read_mapping(lengths, f"lengths {lengths}")
    elif given.get("sequence_length") is not None:
        data.pop("lengths", None)
    return Target.from_dict(data)


def grid(
    target: Target, batch_sizes: Sequence[int], sequence_lengths: Sequence[int]
) -> tuple[Workload, ...]:
    """All combinations of sizes and lengths to measure; by default the target's own.

    >>> grid(Target(threads=1, batch_size=1, sequence_length=64), (1, 8), ())
    (Workload(batch_size=1, sequence_length=64), Workload(batch_size=8, sequence_length=64))
    """
    own = [one.sequence_length for one in target.grid()]
    sizes = batch_sizes or (target.batch_size,)
    return tuple(Workload(*pair) for pair in product(sizes, sequence_lengths or own))
