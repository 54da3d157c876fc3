"""The profile's file, the reading side: checked entry by entry before anything is made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latency.calls import Subject
from latency.json_numbers import NUMBER
from latency.profile_rows import FORMAT, VERSION, subject_of
from latency.target import Workload
from latency.timing import Block, Record
from supernet.errors import NasError
from supernet.space import SearchSpace

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Milliseconds = Annotated[float, Field(gt=0, lt=1e7, allow_inf_nan=False)]
Samples = Annotated[list[Milliseconds], Field(min_length=1)]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MeasurementRow(_Data):
    """A kernel (its kind and sizes, and how many copies) or an architecture, as measured."""

    kernel: str | None = None
    sizes: list[Count] = Field(default_factory=list, max_length=8)
    copies: Count = 1
    architecture: dict[str, Any] | None = None
    batch_size: Count
    sequence_length: Count
    role: Literal["chosen", "drawn", "again"]
    session: Annotated[int, Field(ge=0)]
    blocks: Annotated[
        list[tuple[Milliseconds, Milliseconds, Annotated[int, Field(ge=0)], Samples]],
        Field(min_length=1),
    ]
    """Of each block: the reference's time beside it, over its round, preemptions, the calls."""

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.kernel is None) == (self.architecture is None):
            raise ValueError("needs either a kernel or an architecture")
        try:
            self.subject()
        except NasError as error:
            raise ValueError(str(error)) from error
        return self

    def subject(self) -> Subject:
        return subject_of(self.model_dump())

    def record(self) -> Record:
        return Record(
            tuple(
                Block(tuple(calls), beside, over, taken)
                for beside, over, taken, calls in self.blocks
            )
        )


class FingerprintData(_Data):
    """See :class:`latency.fingerprint.Fingerprint`."""

    cpu: str
    cores: Annotated[int, Field(strict=False, ge=1, le=1_000_000), NUMBER]
    memory_gib: Annotated[int, Field(strict=False, ge=0), NUMBER]
    governor: str
    gpu: str
    machine: str
    system: str
    versions: dict[str, str]


class ShapeData(_Data):
    """See :class:`supernet.architecture.EncoderShape`."""

    vocab_size: Count
    max_positions: Count
    type_vocab_size: Count
    num_labels: Count
    hidden_act: str


class SessionData(_Data):
    """See :class:`latency.profile.Session`."""

    began: str
    others_share: Annotated[float, Field(ge=0, le=1)]


class ProfileFile(_Data):
    """See :class:`latency.profile.Profile`."""

    format: Literal["tailorbert-latency-profile"]
    version: Literal[3]
    target: dict[str, Any]
    workloads: Annotated[list[tuple[Count, Count]], Field(min_length=1)]
    fingerprint: FingerprintData
    spaces: list[dict[str, Any]]
    shape: ShapeData
    seed: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    count_disturbed: bool = False
    complete: bool
    sessions: list[SessionData]
    measurements: list[MeasurementRow]

    @model_validator(mode="after")
    def _spaces_are_sound(self) -> Self:
        for space in self.spaces:
            try:
                SearchSpace.from_dict(space)
            except NasError as error:
                raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _sessions_are_there(self) -> Self:
        for number, row in enumerate(self.measurements):
            if row.session >= len(self.sessions):
                raise ValueError(f"measurements.{number}.session: there is no {row.session}")
        return self

    @classmethod
    def read(cls, data: Any) -> Self:
        """Check ``data`` as read from JSON.

        Raises:
            NasError: not a profile, of another version, or damaged; it names the entry.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise NasError("not a latency profile")
        if data.get("version") != VERSION:
            raise NasError(
                f"latency profile of version {data.get('version')!r}, accepted is {VERSION}: "
                "measure the device again, into another file"
            )
        try:
            return cls.model_validate_json(json.dumps(data))  # JSON's rules: lists are tuples
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise NasError(f"latency profile is damaged: {where}: {first['msg']}") from error

    def grid(self) -> tuple[Workload, ...]:
        return tuple(Workload(*pair) for pair in self.workloads)
