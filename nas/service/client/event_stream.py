"""The events of a search, as they arrive in a response."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2

from supernet.errors import NasError

END = "end"
"""The kind of the last event; it alone has no number."""


@dataclass(frozen=True)
class StreamEvent:
    """An event of a search.

    Args:
        number: within its search; None of ``end``.
        kind: ``status``, ``stage``, ``progress``, ``search``, ``line`` or ``end``.
        data: as docs/http.md lists it by kind.
    """

    number: int | None
    kind: str
    data: dict[str, Any]


def read_events(response: httpx2.Response) -> Iterator[StreamEvent]:
    """The events of a stream; one that was cut off before its empty line is left out.

    Raises:
        NasError: an event whose number or data is not of this service.
    """
    for event in httpx2.EventSource(response):
        try:
            number = int(event.id) if event.id and event.event != END else None
            data = json.loads(event.data)
        except ValueError as error:
            raise NasError(
                f"the server sent an event that is not understood: {event.data[:80]!r}"
            ) from error
        if not isinstance(data, dict):
            raise NasError(f"the server sent an event whose data is no object: {event.data[:80]!r}")
        yield StreamEvent(number, event.event, data)
