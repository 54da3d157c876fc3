"""The one exception family of the project, and the check that most of it comes from."""

from __future__ import annotations

from typing import Any


class NasError(Exception):
    """A fault that the user can mend: what was given, what is accepted, what to do.

    The command line turns it into one line on standard error and exit code 2.
    """


def check_number(
    name: str, value: Any, low: float, high: float | None = None, *, whole: bool = False
) -> None:
    """Refuse what is not a number from ``low`` to ``high``, both included.

    Raises:
        NasError: naming the field, the value and what is accepted.
    """
    kind = int if whole else (int, float)
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if not (fits and low <= value and (high is None or value <= high)):
        upper = "" if high is None else f" and at most {high}"
        noun = "a whole number" if whole else "a number"
        raise NasError(f"{name} must be {noun} of at least {low}{upper}, not {value!r}")
