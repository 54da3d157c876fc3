"""A job: what a search's process is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """What a search's process is told.

    Args:
        request: as :class:`nas.service.searches.requests.SearchRequest` reads it.
        settings: the service's settings, as JSON.
        scratch: a folder for temporary files, emptied at the beginning and at the end.
    """

    search_id: str
    attempt: int
    request: dict[str, Any]
    settings: str
    scratch: str
