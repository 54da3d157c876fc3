"""The service's tables. Times are seconds since 1970, UTC; JSON columns hold plain values.

DBOS has its tables in the same database, so that a search and its job appear in one transaction. A
change here needs a migration (:mod:`nas.service.database.migrations`).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

searches = Table(
    "searches",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("status", String(16), nullable=False),  # queued, running, done, failed, cancelled
    Column("attempt", Integer, nullable=False),  # 1, and one more for each retry
    Column("stage", String(64)),  # that runs, or ran last
    Column("priority", Integer, nullable=False),  # 1 comes before 100
    Column("request", JSON, nullable=False),
    Column("idempotency_key", String(255)),
    Column("error", Text),
    Column("models", JSON),  # of a search that is done: a summary of each; see results.py
    Column("expired", Boolean, nullable=False, default=False),  # whether its models have gone
    Column("name", String(100)),  # that its owner gave it
    Column("note", Text),
    Column("webhook", Text),  # a URL that is told of its end
    UniqueConstraint("owner", "idempotency_key"),
    Index(None, "created"),
    Index(None, "status", "created"),
    Index(None, "status", "updated"),
)

events = Table(
    "events",
    metadata,
    Column("search_id", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),  # 1, 2, ... within a search
    Column("created", Float, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("data", JSON, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),  # sha256 of the token, hexadecimal
    Column("owner", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
    Column("last_used", Float),
)

targets = Table(
    "targets",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("created", Float, nullable=False),
    Column("target", JSON, nullable=False),  # Target.to_dict()
    Column("fingerprint", JSON),  # Fingerprint.to_dict(), once its agent has said so
    Column("profile_digest", String(64)),  # sha256 of its profile; see devices/targets.py
    Column("errors", JSON),  # the error card of that profile
    Column("last_seen", Float),  # its agent
    Column("agent", JSON),  # what the agent says of itself: its version
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("target", String(63), nullable=False),
    Column("search_id", String(32)),
    Column("kind", String(16), nullable=False),  # profile or time
    Column("request", JSON, nullable=False),
    Column("status", String(16), nullable=False),  # waiting, claimed, done, failed
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("lease", Float),  # until when the agent that claimed it is trusted to be at it
    Column("attempts", Integer, nullable=False),  # how often it was claimed
    Column("progress", JSON),
    Column("result", JSON),
    Column("error", Text),
    Index(None, "target", "status", "created"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("kind", String(16), primary_key=True),  # dataset, teacher or supernet
    Column("name", String(63), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("created", Float, nullable=False),
    Column("digest", String(64), nullable=False),  # sha256 of what was uploaded
    Column("bytes", Integer, nullable=False),  # as kept
    Column("about", JSON, nullable=False),  # what its check found; see uploads/
)

shares = Table(
    "shares",
    metadata,
    Column("kind", String(16), primary_key=True),  # search, dataset, teacher, supernet or target
    Column("name", String(63), primary_key=True),
    Column("reader", String(64), primary_key=True),  # a user, or * for everyone
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("search_id", String(32), nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),  # JSON, as it is sent
    Column("tries", Integer, nullable=False),
    Column("due", Float, nullable=False),  # when it is tried next
    Index(None, "due"),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("seen", Float, nullable=False),
    Column("about", JSON, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("created", Float, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("token_id", String(32)),
    Column("action", String(64), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    Index(None, "created"),
)
