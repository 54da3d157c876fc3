"""A job: what the process of a search is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """What a job's process is told.

    Args:
        search_id, attempt: whose stages it runs.
        request: as :class:`nas.service.requests.SearchRequest` reads it.
        settings: the service's, as JSON.
        scratch: a folder for temporary files, emptied at the beginning and the end.
    """

    search_id: str
    attempt: int
    request: dict[str, Any]
    settings: str
    scratch: str
