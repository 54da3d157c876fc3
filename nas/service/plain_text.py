"""Names and lines that others will see: without characters that are hidden or reorder the text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from supernet.errors import NasError, shown

_MOST_VALUES = 5000
_MOST_DEPTH = 8


def check_text(field: str, text: str, most: int = 1000) -> None:
    """Refuse a text that a reader would not see whole and in its order.

    Refused are control characters, line breaks, characters of no width, those that change the
    direction of writing, halves of surrogate pairs, and all spaces but the plain one.

    Args:
        most: characters.

    Raises:
        NasError: naming the field and the first such character.
    """
    if len(text) > most:
        raise NasError(f"{field}: {shown(text)} has more than {most:,} characters")
    if not text.isprintable():
        sign = next(one for one in text if not one.isprintable())
        raise NasError(
            f"{field}: {shown(text)} holds U+{ord(sign):04X}, which is not seen: write letters, "
            "digits, signs and plain spaces"
        )


def check_plain(field: str, given: object, depth: int = 0) -> int:
    """The number of values in what a client gave, all of which a database and a log can hold.

    Raises:
        NasError: there are too many values, or one is nested too deeply, or is not plain.
    """
    if depth > _MOST_DEPTH:
        raise NasError(f"{field}: nested too deeply; at most {_MOST_DEPTH} levels are accepted")
    if isinstance(given, str):
        check_text(field, given)
    if isinstance(given, float) and not math.isfinite(given):
        raise NasError(f"{field}: {given!r} is no number that is accepted")
    if isinstance(given, int) and abs(given) > 2**53:
        raise NasError(f"{field}: numbers must be within 2**53")
    inside: Iterable[object] = ()
    if isinstance(given, Mapping):
        inside = [one for pair in given.items() for one in pair]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        inside = given
    count = 1
    for one in inside:
        count += check_plain(field, one, depth + 1)
        if count > _MOST_VALUES:
            raise NasError(f"{field}: at most {_MOST_VALUES} values are accepted")
    return count
