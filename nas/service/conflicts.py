"""What the present state of things does not allow."""

from __future__ import annotations

from supernet.errors import NasError


class ConflictError(NasError):
    """A request that may be granted once something else has changed; HTTP's status 409."""
