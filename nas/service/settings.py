"""The settings of a service: from YAML and the command line; secrets from files or variables."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nas.settings import secret
from supernet.configs import read_config
from supernet.errors import NasError

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
"""What a target, a data set or a supernet may be called: never a path."""

Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$", max_length=63)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Jobs(_Section):
    """How many searches run, and where.

    Args:
        at_once: searches that run at a time, on all workers.
        per_user: of one user.
        per_worker: on one worker; heavy stages on one machine take turns all the same.
        device_patience_s: how long a search waits for a device that does not answer.
        worker_silence_s: after so long without a sign of life, a worker's searches go to others.
    """

    at_once: int = Field(default=4, ge=1)
    per_user: int = Field(default=2, ge=1)
    per_worker: int = Field(default=1, ge=1)
    device_patience_s: float = Field(default=600.0, gt=0)
    worker_silence_s: float = Field(default=60.0, ge=5)


class Ray(_Section):
    """Searches that are scored on a Ray cluster.

    Args:
        address: as ``nas search --ray`` takes it; None scores in the job's own process.
        from_evaluations: recipes with fewer evaluations are scored in the job's own process.
        workers, cpus, gpus: as :class:`nas.cluster.options.RayOptions` takes them.
    """

    address: str | None = None
    from_evaluations: int = Field(default=200, ge=1)
    workers: int | None = Field(default=None, ge=1)
    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)


class Limits(_Section):
    """What a client may ask for.

    Args:
        requests_per_minute: of one token, or of one address without one.
        body_bytes: of a request that is no upload.
        upload_bytes: of an uploaded data set, teacher or supernet.
        profile_bytes: of an uploaded profile.
        unpacked_bytes: of what an uploaded archive holds.
        body_seconds: a request's body must arrive in this time, plus a second for each 16 KiB; a
            client that does not read its response for this time is cut off.
        header_seconds: a request's header must arrive in this time after the connection began or
            the response before it ended.
        connections: open at once.
        streams: event streams open at once.
        evaluations, training_examples, epochs: caps on a recipe of the client's own.
        searches_per_user: searches of one user that wait or run.
        stored_per_user: data sets, teachers and supernets of one user.
        targets_per_user: registered by one user.
    """

    requests_per_minute: int = Field(default=6000, ge=1)
    body_bytes: int = Field(default=1_000_000, ge=1024)
    upload_bytes: int = Field(default=512_000_000, ge=1024)
    profile_bytes: int = Field(default=64_000_000, ge=1024)
    unpacked_bytes: int = Field(default=2_000_000_000, ge=1024)
    body_seconds: float = Field(default=20.0, gt=0)
    header_seconds: float = Field(default=10.0, gt=0)
    connections: int = Field(default=1000, ge=10)
    streams: int = Field(default=500, ge=1)
    evaluations: int = Field(default=2000, ge=1)
    training_examples: int = Field(default=1_000_000, ge=2)
    epochs: int = Field(default=100, ge=1)
    searches_per_user: int = Field(default=1000, ge=1)
    stored_per_user: int = Field(default=100, ge=1)
    targets_per_user: int = Field(default=100, ge=1)


class Retention(_Section):
    """What is kept, and for how long.

    Args:
        result_days: after this time a finished search's models go; its record and report stay.
        results_gb, workspace_gb: quotas; the least recently used goes first.
        event_days, audit_days: for events of finished searches, and for the audit log.
        every_s: how often the service collects.
    """

    result_days: float = Field(default=90.0, gt=0)
    results_gb: float = Field(default=50.0, gt=0)
    workspace_gb: float = Field(default=100.0, gt=0)
    event_days: float = Field(default=30.0, gt=0)
    audit_days: float = Field(default=365.0, gt=0)
    every_s: float = Field(default=3600.0, ge=1)


class ServiceSettings(_Section):
    """Everything about a service.

    Args:
        host, port: where it listens.
        data: the folder of results, uploads, profiles and the workspace; shared by all workers.
        database: ``postgresql://...``; None is SQLite in ``data``.
        auth: ``required`` asks for a token; ``off`` is for loopback addresses alone; ``auto`` is
            ``off`` on loopback without ``hosts`` and ``proxies``, and ``required`` elsewhere.
        hosts: names by which clients may call it, besides ``host`` and loopback names.
        proxies: addresses of reverse proxies that are believed when they tell a client's address
            and TLS (``X-Forwarded-For``, ``X-Forwarded-Proto``); none by default.
        origins: other origins whose pages may use it from a browser; none by default.
        private: whether only their owner, those they are shared with and administrators see
            searches, models, uploads and devices; else whoever may read sees all.
        webhook_hosts: hosts, with their port unless it is 443, that a search may name in its
            ``webhook``; none by default, since the service calls them from inside its network.
        workspace: for finished stages, as ``nas search --workspace`` takes it; None is in ``data``.
        teachers, datasets: names that clients may use, with a folder, file or hub id each;
            ``minilm`` and ``pydoc`` are always there.
        log: the form of the log's lines.
        otlp_endpoint: an OpenTelemetry collector that receives traces.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65535)
    data: Path = Field(default_factory=lambda: Path("tailorbert-service").absolute())
    database: str | None = None
    auth: Literal["auto", "required", "off"] = "auto"
    hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    private: bool = False
    webhook_hosts: tuple[str, ...] = ()
    workspace: str | None = None
    teachers: dict[Name, str] = Field(default_factory=dict)
    datasets: dict[Name, str] = Field(default_factory=dict)
    log: Literal["text", "json"] = "text"
    otlp_endpoint: str | None = None
    jobs: Jobs = Jobs()
    ray: Ray = Ray()
    limits: Limits = Limits()
    retention: Retention = Retention()

    @field_validator("auth", mode="before")
    @classmethod
    def _off_is_a_word(cls, auth: object) -> object:
        """YAML reads ``off`` as false."""
        return "off" if auth is False else auth

    @field_validator("data")
    @classmethod
    def _absolute(cls, data: Path) -> Path:
        return data.expanduser().absolute()

    @model_validator(mode="after")
    def _open_on_loopback_alone(self) -> Self:
        if self.auth == "off" and not is_loopback(self.host):
            raise ValueError(f"auth: off is for loopback addresses, and host is {self.host!r}")
        return self

    @property
    def needs_token(self) -> bool:
        """Whether requests are refused without a token."""
        public = bool(self.hosts or self.proxies) or not is_loopback(self.host)
        return self.auth == "required" or (self.auth == "auto" and public)

    @property
    def database_url(self) -> str:
        """As SQLAlchemy takes it, driver included."""
        if self.database is None:
            return f"sqlite:///{self.data / 'service.db'}"
        scheme, _, rest = self.database.partition("://")
        if scheme in ("postgres", "postgresql", "postgresql+psycopg"):
            return f"postgresql+psycopg://{rest}"
        if scheme == "sqlite":
            return self.database
        raise NasError(
            f"service: database must be postgresql://... or sqlite:///..., not {scheme}://..."
        )

    @property
    def workspace_place(self) -> str:
        """The workspace's folder or URL."""
        return self.workspace or str(self.data / "workspace")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_service(name: str | None = None, **given: Any) -> ServiceSettings:
    """The settings of a name under ``configs/service`` or of a YAML file's path.

    The database's URL may come as a secret instead: by ``NAS_DATABASE_URL``, or in the file that
    ``NAS_DATABASE_URL_FILE`` names.

    Args:
        name: None takes the defaults.
        given: options of the command line, which override the file; None is not given.

    Raises:
        NasError: no such file, or a key or value that is not accepted.
    """
    data = read_config("service", name) if name is not None else {}
    data |= {key: value for key, value in given.items() if value is not None}
    if data.get("database") is None:
        data["database"] = secret("NAS_DATABASE_URL")
    try:
        settings = ServiceSettings.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "service"
        if first["type"] == "extra_forbidden":
            raise NasError(f"service: unknown key {key}") from error
        shown = "" if key in ("database", "service") else f", not {first['input']!r}"
        raise NasError(f"service: {key}: {first['msg']}{shown}") from error
    assert settings.database_url
    return settings
