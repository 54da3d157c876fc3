"""A device elsewhere: its agent fetches tasks from the service and measures what they ask for."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine

from latency.asked import ModelFile, ProfileAsked, TimeAsked, latencies_from_dicts
from latency.atomic import replacing
from latency.fingerprint import Fingerprint
from latency.profile import Profile
from latency.profiler import ProfileProgress, Status
from latency.target import Latency, Target
from nas.service.database.engine import patiently
from nas.service.devices.targets import DeviceTarget, check_profile, find_target, kept_profile
from nas.service.devices.tasks import (
    LEASE_S,
    Kind,
    Task,
    find_task,
    id_of_task,
    submit_task,
    task_folder,
    withdraw_unclaimed,
)
from nas.store.manifest import file_digest
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError

_LOOK_EVERY_S = 0.5
_SLACK_S = 15 * 60.0
_SHARE_OF_TIME = 0.8
"""A stored profile serves if it was measured for this share of the seconds asked for, so that a
quick search's profile does not replace a thorough one's. The share is below 1 because measuring
ends before a group that would exceed the time."""

T = TypeVar("T")


@dataclass(frozen=True)
class RemoteDevice:
    """A target of the service as a :class:`latency.device.Device`.

    Requests become tasks, whose ids follow from what is asked. So a job that was killed and begins
    anew finds its tasks and their results.

    Args:
        engine, data: the service's database, and the folder of its data.
        name: of the target.
        search_id, attempt: of the search that asks. Another attempt measures anew.
        patience_s: how long to wait for a device that does not answer.
    """

    engine: Engine
    data: Path
    name: str
    search_id: str
    attempt: int
    patience_s: float
    _asked: Counter[str] = field(default_factory=Counter, compare=False, repr=False)

    def await_agent(self) -> None:
        """Wait until the device's agent has asked for work within the last minute.

        Raises:
            NasError: the device did not answer for ``patience_s``.
        """
        self._await(lambda known: time.time() - (known.last_seen or 0.0) <= LEASE_S or None)

    @property
    def identity(self) -> str:
        """See :class:`latency.device.Device`: it names the registration, not what an agent says."""
        known = self._known()
        told = json.dumps([known.name, known.owner, known.created])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def fingerprint(self, target: Target) -> Fingerprint:
        """See :class:`latency.device.Device`."""
        return self._await(lambda known: known.fingerprint)

    def profile(self, asked: ProfileAsked, *, path: Path, progress: ProfileProgress) -> Profile:
        """See :class:`latency.device.Device`. The target's stored profile is used if it serves."""
        known = self._known()
        kept = kept_profile(self.data, known)
        if kept is not None and _serves(stored := Profile.load(kept), known, asked):
            return stored
        return Profile.from_dict(self._done("profile", asked.to_dict(), {}, progress))

    def time(
        self,
        models: Sequence[Architecture | Path],
        target: Target,
        shape: EncoderShape,
        *,
        rounds: int,
    ) -> list[Latency]:
        """See :class:`latency.device.Device`."""
        files = {
            f"{number}.onnx": one for number, one in enumerate(models) if isinstance(one, Path)
        }
        asked = TimeAsked(
            target=target,
            shape=shape,
            models=tuple(
                ModelFile(f"{number}.onnx", file_digest(one)) if isinstance(one, Path) else one
                for number, one in enumerate(models)
            ),
            rounds=rounds,
        )
        return latencies_from_dicts(self._done("time", asked.to_dict(), files), len(models))

    def _done(
        self,
        kind: Kind,
        request: dict[str, Any],
        files: dict[str, Path],
        progress: ProfileProgress | None = None,
    ) -> Any:
        """The result of a task, which is made if it does not exist.

        A second request for the same thing measures it again.
        """
        same = id_of_task(self.search_id, self.attempt, self.name, kind, request)
        self._asked[same] += 1
        task_id = id_of_task(same, self._asked[same])
        task = patiently(partial(find_task, self.engine, task_id))
        if task is None or task.status != "done":
            for name, path in files.items():
                with replacing(task_folder(self.data, task_id) / name) as temporary:
                    shutil.copyfile(path, temporary)
        patiently(
            partial(
                submit_task,
                self.engine,
                task_id,
                target=self.name,
                search_id=self.search_id,
                kind=kind,
                request=request,
            )
        )
        return self._waited(task_id, progress)

    def _waited(self, task_id: str, progress: ProfileProgress | None) -> Any:
        began, shown = time.time(), None
        claimed: float | None = None  # when this process first saw that an agent had claimed it
        while True:
            task = patiently(partial(find_task, self.engine, task_id))
            if task is None:
                raise NasError(f"target {self.name}: the search was ended, or the target removed")
            if task.status == "done":
                return task.result
            if task.status == "failed":
                raise NasError(f"target {self.name}: {task.error}")
            if progress is not None and task.progress is not None and task.progress != shown:
                shown = task.progress
                progress(Status(**shown))
            if task.attempts and claimed is None:
                claimed = time.monotonic()
            limit_s = _limit_s(task)
            if claimed is not None and time.monotonic() - claimed > limit_s:
                raise NasError(f"device {self.name} took longer than {_span(limit_s)}")
            try:
                self._check_seen(began)
            except NasError:
                withdraw_unclaimed(self.engine, self.data, task_id)
                raise
            time.sleep(_LOOK_EVERY_S)

    def _await(self, ready: Callable[[DeviceTarget], T | None]) -> T:
        """The first answer of ``ready`` about the target that is not None."""
        began = time.time()
        while (found := ready(self._known())) is None:
            self._check_seen(began)
            time.sleep(_LOOK_EVERY_S)
        return found

    def _check_seen(self, began: float) -> None:
        """Allow to go on waiting for the device.

        Raises:
            NasError: it did not answer for ``patience_s``.
        """
        seen, now = self._known().last_seen, time.time()
        if now - max(began, seen or 0.0) <= self.patience_s:
            return
        when = "was never seen" if seen is None else f"was last seen {_span(now - seen)} ago"
        raise NasError(
            f"device {self.name} {when}; start its agent: latency agent --server URL "
            f"--name {self.name}, then retry the search"
        )

    def _known(self) -> DeviceTarget:
        known = patiently(partial(find_target, self.engine, self.name))
        if known is None:
            raise NasError(f"no device is registered as target {self.name}")
        return known


def _serves(profile: Profile, known: DeviceTarget, asked: ProfileAsked) -> bool:
    """Whether a target's profile can be used in place of one that would be measured now."""
    try:
        check_profile(known, profile)
    except NasError:
        return False
    return (
        profile.seconds >= _SHARE_OF_TIME * asked.seconds
        and (asked.count_disturbed or not profile.count_disturbed)
        and profile.covers(asked.target, asked.space, asked.shape)
    )


def _limit_s(task: Task) -> float:
    """How long a task may take from its first claim on, even if its agent reports progress."""
    return _SLACK_S + (5 * task.request["seconds"] if task.kind == "profile" else 0.0)


def _span(seconds: float) -> str:
    """A time in days, hours, minutes or seconds, for a message."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
