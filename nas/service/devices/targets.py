"""Targets of other devices: registered by their agents, with a profile once one was measured."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine, Row
from sqlalchemy.exc import IntegrityError

from latency.asked import ProfileAsked
from latency.atomic import write_text
from latency.fingerprint import Fingerprint
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.target import Target
from nas.service.access.visibility import forget_shares
from nas.service.conflicts import ConflictError
from nas.service.database.engine import count_in_turn, execute, first_row
from nas.service.database.tables import targets, tasks
from nas.service.devices.tasks import fail_tasks
from nas.service.plain_text import check_plain
from supernet.configs import config_names
from supernet.errors import NasError, shown

MOST_MEASUREMENTS = 5000
"""Of an uploaded profile: the time that fitting takes grows with the third power of the number."""

_SEEN_EVERY_S = 2.0  # at most one write in this time for each agent, however often it asks
_MOVED = (
    "an agent on another machine, or with other software, took the name while this was asked: "
    "retry the search, and give each device a name of its own"
)
_FITTING = threading.Lock()  # a fit uses all cores, and two callers may want the same fit


class ChangedError(ConflictError):
    """Another request changed the target meanwhile."""


@dataclass(frozen=True)
class DeviceTarget:
    """A target that an agent measures.

    Args:
        fingerprint: None until its agent has told it.
        profile_digest: sha256 of its profile; None where it has none.
        errors: the error card of the profile, :class:`latency.accuracy.PredictorErrors`.
        last_seen: when its agent asked last, in seconds since 1970.
        agent: what the agent says about itself.
    """

    name: str
    owner: str
    created: float
    target: Target
    fingerprint: Fingerprint | None
    profile_digest: str | None
    errors: dict[str, Any] | None
    last_seen: float | None
    agent: dict[str, Any] | None


def register_target(
    engine: Engine,
    data: Path,
    name: str,
    owner: str,
    target: Target,
    *,
    fingerprint: Fingerprint | None = None,
    agent: dict[str, Any] | None = None,
    anyones: bool = False,
    most: int,
) -> bool:
    """Register a target, or bring it up to date.

    A profile is removed when the target, machine or software changes. Open tasks fail when the
    machine or software changes, because measurements of two machines must not mix.

    Args:
        fingerprint, agent: None leaves what is known.
        anyones: whether another owner's target may be changed.
        most: how many targets one owner may have.

    Returns:
        whether it is new.

    Raises:
        ConflictError: the name is the server's own, or another owner's; or the owner has as many
            targets as one may have.
        NasError: agents do not measure this runtime or device.
    """
    if name in config_names("targets"):
        raise ConflictError(f"target {name} is the server's own: choose another name")
    if (target.runtime, target.device) != ("onnxruntime", "cpu"):
        raise NasError(
            f"target {name}: agents measure runtime onnxruntime on device cpu, "
            f"not {target.runtime} on {target.device}"
        )
    told: dict[str, Any] = {"target": target.to_dict()}
    if fingerprint is not None:
        told["fingerprint"] = fingerprint.to_dict()
    if agent is not None:
        told |= {"agent": agent, "last_seen": time.time()}
    known = find_target(engine, name)
    if known is None:
        try:
            with engine.begin() as connection:
                connection.execute(
                    targets.insert().values(name=name, owner=owner, created=time.time(), **told)
                )
                forget_shares(connection, "target", name)
                if count_in_turn(connection, targets, owner) > most:
                    raise ConflictError(f"at most {most} targets of one user are kept: delete one")
            return True
        except IntegrityError:  # another request was first
            known = find_target(engine, name)
    if known is None or (known.owner != owner and not anyones):
        raise ConflictError(f"target {name} belongs to another user: choose another name")
    moved = fingerprint is not None and known.fingerprint not in (None, fingerprint)
    other = moved or known.target != target
    if other:
        told |= {"profile_digest": None, "errors": None}
    with engine.begin() as connection:
        if not connection.execute(targets.update().where(_is(known)).values(**told)).rowcount:
            raise ConflictError(
                f"target {name} belongs to another user by now: choose another name"
            )
        if moved:
            fail_tasks(connection, name, _MOVED)
    if other:
        _remove_profile(engine, data, known)
    return False


def find_target(engine: Engine, name: str) -> DeviceTarget | None:
    """The target of a name."""
    row = first_row(engine, sa.select(targets).where(targets.c.name == name))
    return None if row is None else target_of_row(row)


def target_of_row(row: Row[Any]) -> DeviceTarget:
    """The target that a row of the table holds."""
    told = row._asdict()
    fingerprint = told["fingerprint"]
    return DeviceTarget(
        **told
        | {
            "target": Target.from_dict(told["target"]),
            "fingerprint": None if fingerprint is None else Fingerprint.from_dict(fingerprint),
        }
    )


def remove_target(engine: Engine, data: Path, known: DeviceTarget) -> None:
    """Forget a target, its profile and its tasks; a search that waits for it fails."""
    with engine.begin() as connection:
        if connection.execute(targets.delete().where(_is(known))).rowcount:
            connection.execute(tasks.delete().where(tasks.c.target == known.name))
            forget_shares(connection, "target", known.name)
    _remove_profile(engine, data, known)


def mark_seen(engine: Engine, known: DeviceTarget) -> None:
    """Note that a target's agent is there."""
    now = time.time()
    if known.last_seen is None or known.last_seen < now - _SEEN_EVERY_S:
        execute(engine, targets.update().where(targets.c.name == known.name).values(last_seen=now))


def check_profile(known: DeviceTarget, profile: Profile) -> None:
    """Refuse a profile that was not measured for a target, or that is too large.

    Raises:
        NasError: it is of another target, machine or software, is too large, or holds text that is
            not plain.
    """
    if len(profile.measurements) > MOST_MEASUREMENTS:
        raise NasError(
            f"the profile holds {len(profile.measurements)} measurements, and {MOST_MEASUREMENTS} "
            "are accepted at the most"
        )
    check_plain("fingerprint", profile.fingerprint.to_dict())
    check_plain("sessions", [asdict(session) for session in profile.sessions])
    for space in profile.spaces:
        check_plain("space", space)
    profile.check_serves(known.target)
    if known.fingerprint is not None and (
        differences := known.fingerprint.differences(profile.fingerprint)
    ):
        raise NasError(
            f"target {known.name} is another machine or software than the profile's: "
            f"{'; '.join(differences)}"
        )


def check_answers(profile: Profile, asked: ProfileAsked) -> None:
    """Refuse a profile that is not what a task asked for.

    Raises:
        NasError: naming what differs.
    """
    for name, theirs, ours in (
        ("target", profile.target, asked.target),
        ("spaces", [dict(space) for space in profile.spaces], [asked.space.to_dict()]),
        ("shape", profile.shape, asked.shape),
    ):
        if theirs != ours:
            raise NasError(
                f"the profile is of other {name} than the task's: "
                f"{shown(theirs, 200)}, not {shown(ours, 200)}"
            )


def store_profile(engine: Engine, data: Path, known: DeviceTarget, profile: Profile) -> str:
    """Keep a profile as a target's own, with its error card.

    The file is named by its content. It is written and removed while the target's row is locked, so
    that the row and the file always agree.

    Args:
        known: the target as it was read before.

    Returns:
        the profile's sha256, hexadecimal.

    Raises:
        ChangedError: the target has changed since ``known`` was read.
        NasError: see :func:`check_profile`; or nothing can be predicted from the profile.
    """
    check_profile(known, profile)
    errors = _finite(_error_card(profile))
    content = json.dumps(profile.to_dict(), separators=(",", ":"))
    digest = hashlib.sha256(content.encode()).hexdigest()
    with engine.begin() as connection:
        kept = connection.execute(
            targets.update()
            .where(_is(known), targets.c.profile_digest.is_not_distinct_from(known.profile_digest))
            .values(profile_digest=digest, errors=errors)
        )
        row = connection.execute(sa.select(targets).where(_is(known))).one_or_none()
        now = None if row is None else target_of_row(row)
        same = now and (now.target, now.fingerprint) == (known.target, known.fingerprint)
        if not kept.rowcount or not same:
            raise ChangedError(
                f"target {known.name} got another profile, or became another machine, meanwhile: "
                "try again"
            )
        write_text(profile_path(data, known.name, digest), content)
    if known.profile_digest != digest:
        _remove_profile(engine, data, known)
    return digest


def profile_path(data: Path, name: str, digest: str) -> Path:
    """Where a target's profile stands in the service's data."""
    return data / "profiles" / f"{name}-{digest}.json"


def kept_profile(data: Path, known: DeviceTarget) -> Path | None:
    """The file of a target's profile, if it has one."""
    if known.profile_digest is None:
        return None
    path = profile_path(data, known.name, known.profile_digest)
    return path if path.exists() else None


def predictor_of(data: Path, known: DeviceTarget) -> LatencyPredictor | None:
    """The predictor of a target's profile, if it has one; fitted once in a process."""
    path = kept_profile(data, known)
    with _FITTING:
        return _known_predictor(path) if path is not None else None


@lru_cache(maxsize=16)
def _known_predictor(path: Path) -> LatencyPredictor:
    return LatencyPredictor(Profile.load(path)).fit()


def _error_card(profile: Profile) -> dict[str, Any]:
    """The error card of a profile that was not made here.

    Raises:
        NasError: nothing can be predicted from it.
    """
    with _FITTING:
        try:
            return asdict(LatencyPredictor(profile).fit().errors())
        except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
            raise NasError(f"nothing can be predicted from the profile: {error}") from error


def _is(known: DeviceTarget) -> sa.ColumnElement[bool]:
    """The condition of a target's row; another owner may have taken the name meanwhile."""
    return sa.and_(targets.c.name == known.name, targets.c.owner == known.owner)


def _remove_profile(engine: Engine, data: Path, known: DeviceTarget) -> None:
    """Remove the profile that a target had, unless it is the target's profile again."""
    if known.profile_digest is None:
        return
    ours = targets.c.name == known.name
    with engine.begin() as connection:
        connection.execute(targets.update().where(ours).values(name=known.name))  # locks the row
        current = connection.execute(sa.select(targets.c.profile_digest).where(ours)).scalar()
        if current != known.profile_digest:
            profile_path(data, known.name, known.profile_digest).unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    """The value with None for NaN and infinity, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
