"""NasError, the exception of all faults that a user can mend, and the checks that raise it."""

from __future__ import annotations

import reprlib
from typing import Any

_LIMITS = reprlib.Repr()
_LIMITS.maxlevel = 3
_LIMITS.maxstring = _LIMITS.maxlong = 60
_LIMITS.maxother = 200


class NasError(Exception):
    """A fault that the user can mend: what was given, what is accepted, what to do.

    The command line turns it into one line on standard error and exit code 2.
    """


def shown(given: object, most: int = 80) -> str:
    """A given value for an error message: one line of at most ``most`` characters.

    It costs little for a value of any size, because a stranger may have sent it.
    """
    text = " ".join(_LIMITS.repr(given).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def printable(text: str, instead: str = " ") -> str:
    """A stranger's text, with ``instead`` in place of invisible and reordering characters."""
    return "".join(one if one.isprintable() else instead for one in text)


def error_line(error: Exception) -> str:
    """The text of another library's error in one line, with its type if the text may be unclear."""
    kind, text = type(error).__name__, " ".join(printable(str(error)).split())
    told = text if isinstance(error, OSError | ValueError | RuntimeError) else f"{kind}: {text}"
    return told[:300] or kind


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
        raise NasError(f"{name} must be {noun} of at least {low}{upper}, not {shown(value)}")
