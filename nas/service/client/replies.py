"""What the service answers, as its client reads it; keys that it does not need are passed over."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from latency.connection import one_line
from supernet.errors import NasError

Status = Literal["queued", "running", "done", "failed", "cancelled"]


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True)


class Archive(_Reply):
    """A model's archive.

    Args:
        bytes: its size.
        sha256: its checksum, hexadecimal.
    """

    bytes: int
    sha256: str


class Model(_Reply):
    """A model that a search found; the figures are as ``report.json`` has them."""

    number: int
    target: str
    budget: str
    budget_ms: float
    percentile: int
    architecture: dict[str, Any]
    measured_ms: float
    speedup: float
    metric: str
    score: float
    teacher_score: float
    archive: Archive


class Requested(_Reply):
    """Of what a search was asked for, what names its models."""

    data: str
    targets: list[str]
    budgets: list[str]


class Search(_Reply):
    """A search.

    Args:
        stage: that runs, or ran last.
        expired: whether its models have gone.
        models: of one that is done.
    """

    id: str
    owner: str
    created: datetime
    status: Status
    stage: str | None
    request: Requested
    error: str | None
    name: str | None = None
    expired: bool
    models: list[Model] | None


class Progress(_Reply):
    """How far a stage is; a stage may have several titles, one after the other."""

    title: str
    done: float
    total: float
    note: str = ""


_Kind = TypeVar("_Kind", bound=BaseModel)


def understood(kind: type[_Kind], data: object) -> _Kind:
    """What the service said, its texts without what would command a terminal.

    Raises:
        NasError: nothing of that kind.
    """
    try:
        return kind.model_validate(_plain(data))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise NasError(
            f"the server answers in a form that is not understood ({kind.__name__} {where}): "
            "is it of another version?"
        ) from error


def _plain(data: object) -> object:
    if isinstance(data, str):
        return one_line(data)
    if isinstance(data, list):
        return [_plain(one) for one in data]
    if isinstance(data, dict):
        return {one_line(str(key)): _plain(value) for key, value in data.items()}
    return data
