"""Server-sent events as they are read from a response's text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from supernet.errors import NasError


@dataclass(frozen=True)
class StreamEvent:
    """An event of a search.

    Args:
        number: within its search; None where the event has none, such as ``end``.
        kind: ``status``, ``stage``, ``progress``, ``search``, ``line`` or ``end``.
        data: as docs/http.md lists it by kind.
    """

    number: int | None
    kind: str
    data: dict[str, Any]


def parse_events(chunks: Iterable[str]) -> Iterator[StreamEvent]:
    r"""The events of a stream's text; one that was cut off before its empty line is left out.

    Args:
        chunks: as they arrive, whatever they break in two.

    Raises:
        NasError: an event whose number or data is not of this service.

    Example:
        >>> list(parse_events(["id: 7\nevent: sta", 'ge\ndata: {"state": "began"}\n\n']))
        [StreamEvent(number=7, kind='stage', data={'state': 'began'})]
    """
    fields: dict[str, list[str]] = {}
    for line in _lines(chunks):
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if "data" in fields:
            yield _event(fields)
        fields = {}


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Not ``str.splitlines``: JSON may hold U+2028 and the like as they are."""
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split("\n")
        yield from (line.removesuffix("\r") for line in whole)


def _event(fields: dict[str, list[str]]) -> StreamEvent:
    text = "\n".join(fields["data"])
    try:
        number = int(fields["id"][-1]) if "id" in fields else None
        data = json.loads(text)
    except ValueError as error:
        raise NasError(f"the server sent an event that is not understood: {text[:80]!r}") from error
    if not isinstance(data, dict):
        raise NasError(f"the server sent an event whose data is no object: {text[:80]!r}")
    return StreamEvent(number, fields.get("event", ["message"])[-1], data)
