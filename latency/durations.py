"""Times as a person writes them."""

from __future__ import annotations

import re

from supernet.errors import NasError

_TIME = re.compile(r"\s*(?P<value>\d+\.?\d*|\.\d+)\s*(?P<unit>s|m|h|)\s*")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_seconds(text: str) -> float:
    """Seconds of ``"90"``, ``"90s"``, ``"3m"`` or ``"1h"``.

    Raises:
        NasError: any other form, or nothing at all of time.

    >>> parse_seconds("1.5m")
    90.0
    """
    match = _TIME.fullmatch(text)
    seconds = float(match["value"]) * _SECONDS[match["unit"]] if match else 0.0
    if seconds <= 0:
        raise NasError(f"time {text!r} is not understood; write seconds ('90', '90s') or '3m'")
    return seconds
