"""JSON as RFC 8259 defines it: no NaN, no key twice, no value that other readers cannot hold."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn

from supernet.errors import NasError


def parse_json(text: str) -> Any:
    """The value that ``text`` states.

    Raises:
        NasError: it is not JSON, is nested too deeply, or holds an infinite number, an integer
            beyond 64 bits, half of a surrogate pair, or a key that stands twice in an object.

    Example:
        >>> parse_json('{"label": 1}')
        {'label': 1}
    """
    try:
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short,
            object_pairs_hook=distinct,
        )
        if "\\u" in text:  # only an escape can state half of a pair
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise NasError("JSON that is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise NasError("a string holds half of a surrogate pair") from error
    except ValueError as error:
        raise NasError(f"not JSON: {error}") from error
    return value


def _no_constant(name: str) -> NoReturn:
    raise NasError(f"{name} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise NasError(f"number {text[:40]} is too large")
    return number


def _short(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (number := int(text)) < 2**63:
        raise NasError(f"number {text[:40]} is too large")
    return number


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's keys and values; a reader that takes the last of two equal keys differs from one
    that takes the first.

    Raises:
        NasError: a key stands twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise NasError(f"key {counts.most_common(1)[0][0][:40]!r} stands twice in an object")
    return found
