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
from nas.service.access import forget_shares
from nas.service.database import take_turns
from nas.service.devices.tasks import fail_tasks
from nas.service.plain_text import check_plain
from nas.service.tables import targets, tasks
from supernet.configs import config_names
from supernet.errors import NasError, shown

MOST_MEASUREMENTS = 5000
"""Of an uploaded profile: what fitting a predictor takes grows with their third power."""

_SEEN_EVERY_S = 2.0  # a write at most so often for each agent, however busy it is
_MOVED = (
    "an agent on another machine, or with other software, took the name while this was asked: "
    "retry the search, and give each device a name of its own"
)
_FITTING = threading.Lock()  # one at a time: a fit uses all cores, and two may be of one profile


class TakenError(NasError):
    """A target's name that belongs to someone else, or to the server."""


class FullError(NasError):
    """A target too many of one user."""


class ChangedError(NasError):
    """A target that another request changed meanwhile."""


@dataclass(frozen=True)
class DeviceTarget:
    """A target that an agent measures.

    Args:
        fingerprint: None until its agent has told.
        profile_digest: of its profile; None where there is none.
        errors: :meth:`latency.accuracy.PredictorErrors.to_dict` of the profile.
        last_seen: when its agent asked last, in seconds since 1970.
        agent: what that says of itself.
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
    """Enter a target, or bring it up to date.

    A profile goes with the target, machine and software that it is of. What was asked of another
    machine or software fails: what two machines measure does not mix.

    Args:
        fingerprint, agent: None leaves what is known.
        anyones: whether another owner's may be changed.
        most: that one owner may have.

    Returns:
        whether it is new.

    Raises:
        TakenError: the server's own name, or another owner's.
        FullError: the owner has as many as one may have.
        NasError: a runtime or device that agents do not measure.
    """
    if name in config_names("targets"):
        raise TakenError(f"target {name} is the server's own: choose another name")
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
                take_turns(connection, f"targets of {owner}")
                query = sa.select(sa.func.count()).where(targets.c.owner == owner)
                if connection.execute(query).scalar_one() > most:
                    raise FullError(f"at most {most} targets of one user are kept: delete one")
            return True
        except IntegrityError:  # another request was first
            known = find_target(engine, name)
    if known is None or (known.owner != owner and not anyones):
        raise TakenError(f"target {name} belongs to another user: choose another name")
    moved = fingerprint is not None and known.fingerprint not in (None, fingerprint)
    other = moved or known.target != target
    if other:
        told |= {"profile_digest": None, "errors": None}
    ours = sa.and_(targets.c.name == name, targets.c.owner == known.owner)
    with engine.begin() as connection:
        if not connection.execute(targets.update().where(ours).values(**told)).rowcount:
            raise TakenError(f"target {name} belongs to another user by now: choose another name")
        if moved:
            fail_tasks(connection, name, _MOVED)
    if other:
        _remove_profile(engine, data, known)
    return False


def find_target(engine: Engine, name: str) -> DeviceTarget | None:
    """The target of a name."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(targets).where(targets.c.name == name)).one_or_none()
    return None if row is None else target_of_row(row)


def target_of_row(row: Row[Any]) -> DeviceTarget:
    """What a row of the table says."""
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
        ours = sa.and_(targets.c.name == known.name, targets.c.owner == known.owner)
        if connection.execute(targets.delete().where(ours)).rowcount:
            connection.execute(tasks.delete().where(tasks.c.target == known.name))
            forget_shares(connection, "target", known.name)
    _remove_profile(engine, data, known)


def mark_seen(engine: Engine, known: DeviceTarget) -> None:
    """Note that a target's agent is there."""
    now = time.time()
    if known.last_seen is None or known.last_seen < now - _SEEN_EVERY_S:
        with engine.begin() as connection:
            connection.execute(
                targets.update().where(targets.c.name == known.name).values(last_seen=now)
            )


def check_profile(known: DeviceTarget, profile: Profile) -> None:
    """Refuse a profile that was not measured for a target, or holds more than it takes.

    Raises:
        NasError: of another target, machine or software, too large, or with texts that are not
            plain.
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
    """Refuse a profile of something else than was asked for.

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

    Its file is named for its content, and comes and goes while the row is held, so that the two
    never part.

    Args:
        known: the target as read before. What changed it meanwhile counts.

    Returns:
        its sha256, hexadecimal.

    Raises:
        ChangedError: the target is not as ``known`` any more.
        NasError: see :func:`check_profile`; or nothing can be predicted from it.
    """
    check_profile(known, profile)
    errors = _finite(_error_card(profile))
    content = json.dumps(profile.to_dict(), separators=(",", ":"))
    digest = hashlib.sha256(content.encode()).hexdigest()
    ours = sa.and_(targets.c.name == known.name, targets.c.owner == known.owner)
    with engine.begin() as connection:
        kept = connection.execute(
            targets.update()
            .where(ours, targets.c.profile_digest.is_not_distinct_from(known.profile_digest))
            .values(profile_digest=digest, errors=errors)
        )
        row = connection.execute(sa.select(targets).where(ours)).one_or_none()
        now = None if row is None else target_of_row(row)
        if not kept.rowcount or now is None or _machine(now) != _machine(known):
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


def stored_profile(data: Path, known: DeviceTarget) -> Profile | None:
    """A target's profile, if it has one."""
    if known.profile_digest is None:
        return None
    path = profile_path(data, known.name, known.profile_digest)
    return Profile.load(path) if path.exists() else None


def predictor_of(data: Path, known: DeviceTarget) -> LatencyPredictor | None:
    """The predictor of a target's profile, if it has one; fitted once in a process."""
    if known.profile_digest is None:
        return None
    path = profile_path(data, known.name, known.profile_digest)
    with _FITTING:
        return _known_predictor(path) if path.exists() else None


@lru_cache(maxsize=16)
def _known_predictor(path: Path) -> LatencyPredictor:
    return LatencyPredictor(Profile.load(path)).fit()


def _error_card(profile: Profile) -> dict[str, Any]:
    """Of a profile that was not made here.

    Raises:
        NasError: nothing can be predicted from it.
    """
    with _FITTING:
        try:
            return asdict(LatencyPredictor(profile).fit().errors())
        except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
            raise NasError(f"nothing can be predicted from the profile: {error}") from error


def _machine(known: DeviceTarget) -> tuple[Target, Fingerprint | None]:
    """What a profile must be of."""
    return known.target, known.fingerprint


def _remove_profile(engine: Engine, data: Path, known: DeviceTarget) -> None:
    """Remove the file of a profile that was a target's, unless it has become that again."""
    if known.profile_digest is None:
        return
    ours = targets.c.name == known.name
    with engine.begin() as connection:
        connection.execute(targets.update().where(ours).values(name=known.name))  # holds the row
        current = connection.execute(sa.select(targets.c.profile_digest).where(ours)).scalar()
        if current != known.profile_digest:
            profile_path(data, known.name, known.profile_digest).unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    """JSON knows no NaN: what could not be told is null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
