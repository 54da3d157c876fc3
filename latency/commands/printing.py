"""What the commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

out = Console(highlight=False, markup=False)
err = Console(highlight=False, markup=False, stderr=True)


def say(line: str) -> None:
    """Print one line to standard error."""
    err.print(line, soft_wrap=True)


def warn(warnings: Iterable[str]) -> None:
    """Print a line for each warning to standard error."""
    for warning in warnings:
        say(f"warning: {warning}")
