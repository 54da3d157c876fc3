"""Measures a profile, a few kernels and models at a time, until it is good enough or time is up.

Each next measurement is the one that teaches the predictor most (:mod:`latency.design`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from latency.affinity import pinned
from latency.calls import Subject
from latency.design import Planned, draw, most_useful, opening
from latency.fingerprint import Fingerprint
from latency.kernels import Kernel
from latency.machine import Usage, others_share
from latency.predictor import LatencyPredictor
from latency.profile import MOST_DISTURBED, Measurement, Profile, Session
from latency.runtimes import Runtime, bound, kernel_shape, runtime_of, workload
from latency.target import Target, Workload
from latency.timing import Protocol, Stopwatch, now, record
from supernet.architecture import EncoderShape
from supernet.errors import NasError
from supernet.space import SearchSpace

REFERENCES = (Kernel("feed_forward", (256, 1024)), Kernel("head", (1448,)))
REFERENCE_WORKLOAD = Workload(1, 64)
"""The reference, which runs beside every measurement in the target's runtime, and its input.

The first kernel is bound by arithmetic and shows drift of the clock speed. The second is bound by
memory: it reads 8 MB of weights once. Other processes on the machine may disturb either."""

LEAST_DRAWN = 20
"""The least number of models drawn at random, however short the time: 95% bounds need as many."""

GROUP = 8
"""How many subjects are measured side by side, and held in memory together."""

_BATCH = 4  # groups that are planned at once
_DRAWN, _AGAIN = 12, 4  # in a batch: models drawn, and drawn models that are built anew
_ATTEMPTS = 3  # to measure a subject steadily
_PROTOCOL = Protocol(rounds=10, extra_rounds=5)


@dataclass(frozen=True)
class Status:
    """Progress of a profile.

    Args:
        share: of the time budget spent, or of the way to the target error, whichever is larger,
            0 to 1.
        measured: kernels and models measured so far.
        error_percent: mean error on models drawn at random, each predicted from all others. None
            until enough models are measured.
    """

    share: float
    measured: int
    error_percent: float | None


ProfileProgress = Callable[[Status], None]


def profile_device(
    target: Target,
    spaces: Sequence[SearchSpace],
    *,
    workloads: Sequence[Workload] = (),
    time_budget_s: float = 180.0,
    target_error: float | None = None,
    seed: int = 0,
    count_disturbed: bool = False,
    path: Path | None = None,
    shape: EncoderShape = EncoderShape(),
    progress: ProfileProgress | None = None,
) -> Profile:
    """Measure a profile for a latency predictor of ``spaces`` on ``target``.

    Args:
        workloads: batch sizes and sequence lengths to measure. Empty: those of
            :meth:`latency.target.Target.grid`.
        time_budget_s: seconds for building and measuring, earlier sessions included. The minimum
            that is useful may take longer on a slow device.
        target_error: a mean relative error, such as 0.03, at which measuring stops early.
        count_disturbed: for a machine that is never quiet; see :class:`latency.profile.Profile`.
        path: file that holds the profile, saved after every group. If it exists, measuring
            continues from it.
        shape: vocabulary, positions, labels and activation of all models.

    Raises:
        NasError: ``path`` holds a profile of another target, machine, grid, space, shape or seed.
    """
    runtime = runtime_of(target)
    grid = tuple(workloads) or target.grid()
    longest = max(one.sequence_length for one in grid)
    if longest > shape.max_positions:
        raise NasError(
            f"target: sequence_length {longest} exceeds the model's {shape.max_positions} positions"
        )
    fresh = Profile(
        target=target,
        workloads=grid,
        fingerprint=Fingerprint.of_this_machine(target),
        spaces=tuple(space.to_dict() for space in spaces),
        shape=shape,
        seed=seed,
        count_disturbed=count_disturbed,
    )
    profile = _continued(fresh, path)
    goal = _Goal(time_budget_s, target_error)
    if goal.reached(profile, _error(_fitted(profile))):
        return profile
    with runtime.threads(target), pinned(target.threads):
        return _measured(profile, spaces, runtime, goal, path, progress)


def _continued(fresh: Profile, path: Path | None) -> Profile:
    """The profile at ``path``, or ``fresh`` where there is no file.

    Raises:
        NasError: the profile at ``path`` differs from ``fresh`` in what it measures.
    """
    if path is None or not path.exists():
        return fresh
    kept = Profile.load(path)
    try:
        kept.check_continues(fresh)
        for name in ("target", "workloads", "spaces", "seed", "count_disturbed"):
            if getattr(kept, name) != getattr(fresh, name):
                raise NasError(f"it is of other {name}")
    except NasError as error:
        raise NasError(f"profile {path} cannot be continued: {error}; give another path") from error
    return kept


@dataclass(frozen=True)
class _Goal:
    """The condition on which measuring ends."""

    time_budget_s: float
    target_error: float | None

    def reached(self, profile: Profile, error: float | None) -> bool:
        """Whether the error is low enough, or another group would likely exceed the time."""
        if not has_enough(profile):
            return False
        if self.target_error is not None and error is not None and error <= self.target_error:
            return True
        groups = len(profile.measurements) / GROUP
        return profile.seconds * (1 + 1 / groups) > self.time_budget_s

    def share(self, profile: Profile, error: float | None) -> float:
        """The part of the way that is done, 0 to 1."""
        shares = [profile.seconds / self.time_budget_s]
        if self.target_error is not None and error:
            shares.append((self.target_error / error) ** 2)  # an error falls as the root of time
        return min(1.0, max(shares))


def has_enough(profile: Profile) -> bool:
    """Whether a predictor can use the profile: enough different drawn models, measured steadily.

    A small space or a busy machine may never give enough. Then twice as many attempts suffice.
    """
    drawn = [m.subject for m in profile.measurements if m.role == "drawn"]
    steady = _measured_steadily(profile)
    return len(set(drawn) & steady) >= LEAST_DRAWN or len(drawn) >= 2 * LEAST_DRAWN


def _measured(
    profile: Profile,
    spaces: Sequence[SearchSpace],
    runtime: Runtime,
    goal: _Goal,
    path: Path | None,
    progress: ProfileProgress | None,
) -> Profile:
    """Measure until the goal is reached; save the profile at ``path`` after every group."""
    session = MeasuringSession(profile, runtime, min(60.0, goal.time_budget_s / 20))
    while True:
        predictor = _fitted(profile)
        error = _error(predictor)
        if goal.reached(profile, error):
            break
        planned = _planned(profile, predictor, spaces)
        for start in range(0, len(planned), GROUP):
            profile = session.measure(profile, planned[start : start + GROUP])
            profile = replace(profile, complete=profile.complete or goal.reached(profile, error))
            if path:
                profile.save(path)
            if progress:
                percent = None if error is None else 100 * error
                progress(Status(goal.share(profile, error), len(profile.measurements), percent))
            if goal.reached(profile, error):
                break
    if not profile.complete:
        profile = replace(profile, complete=True)
        if path:
            profile.save(path)
    return profile


class MeasuringSession:
    """Builds and times groups of subjects, and records the seconds that this takes."""

    def __init__(self, profile: Profile, runtime: Runtime, group_limit_s: float) -> None:
        self._session = Session(now())
        self._runtime, self._target, self._seed = runtime, profile.target, profile.seed
        longest = max(one.sequence_length for one in profile.workloads)
        self._shape = kernel_shape(profile.shape, self._target.of(Workload(1, longest)))
        self._protocol = replace(_PROTOCOL, limit_s=group_limit_s)
        self._earlier_s, self._watch, self._before = profile.seconds, Stopwatch(), Usage.now()
        self._reference = reference_calls(runtime, profile.target, profile.shape)
        self._beside_ms = math.inf
        self._begun = False

    def measure(self, profile: Profile, group: Sequence[Planned]) -> Profile:
        """``profile`` with the measurements of ``group`` added, in this session."""
        records = record(
            [self._build(subject) for subject, _ in group],
            reference=self._reference,
            protocol=self._protocol,
            beside_ms=self._beside_ms,
        )
        earlier = profile.sessions[: len(profile.sessions) - self._begun]
        share = round(others_share(self._before, Usage.now()), 4)
        self._begun = True
        grown = replace(
            profile,
            seconds=round(self._earlier_s + self._watch.seconds(), 3),
            sessions=(*earlier, replace(self._session, others_share=share)),
            measurements=profile.measurements
            + tuple(
                Measurement(subject, role, len(earlier), one)
                for (subject, role), one in zip(group, records, strict=True)
            ),
        )
        self._beside_ms = grown.usual[-1].beside_ms
        return grown

    def _build(self, subject: Subject) -> Callable[[], object]:
        target = self._target.of(subject.workload)
        if isinstance(subject.what, Kernel):
            return self._runtime.kernel(
                subject.what, target, shape=self._shape, copies=subject.copies, seed=self._seed
            )
        model = self._runtime.model(subject.what, target, shape=self._shape, seed=self._seed)
        return bound(model, workload(target, self._shape, seed=self._seed))


def reference_calls(
    runtime: Runtime, target: Target, shape: EncoderShape
) -> list[Callable[[], object]]:
    """The reference kernels, ready to be timed."""
    fixed = target.of(REFERENCE_WORKLOAD)
    return [runtime.kernel(kernel, fixed, shape=shape) for kernel in REFERENCES]


def _planned(
    profile: Profile, predictor: LatencyPredictor | None, spaces: Sequence[SearchSpace]
) -> list[Planned]:
    """The next subjects to measure, in order."""
    rng = np.random.default_rng([profile.seed, len(profile.measurements)])
    first_token = profile.target.first_token_last_layer
    grid = profile.workloads
    planned: list[Planned] = [(subject, "drawn") for subject in draw(spaces, grid, _DRAWN, rng)]
    planned += _once_more(profile, rng)
    first = opening(
        spaces, grid, first_token_last_layer=first_token, rng=np.random.default_rng(profile.seed)
    )
    tried = {one.subject for one in profile.measurements}
    planned += [one for one in first if one[0] not in tried]
    if predictor is not None:
        useful = most_useful(
            predictor.posterior_, spaces, grid, max(0, GROUP * _BATCH - len(planned)),
            first_token_last_layer=first_token, rng=rng,
        )  # fmt: skip
        planned += [(subject, "chosen") for subject in useful]
    return [planned[row] for row in rng.permutation(len(planned))]


def _once_more(profile: Profile, rng: np.random.Generator) -> list[Planned]:
    """Drawn models to build and measure again, and subjects not measured steadily yet."""
    steady = _measured_steadily(profile)
    attempts = Counter(m.subject for m in profile.measurements)
    again = {m.subject for m in profile.measurements if m.role == "again"}
    repeatable = [
        m.subject
        for m in profile.measurements
        if m.role == "drawn" and m.subject in steady and m.subject not in again
    ]
    rows = rng.permutation(len(repeatable))[:_AGAIN]
    planned: list[Planned] = [(repeatable[row], "again") for row in rows]
    for one in profile.measurements:
        waiting = one.subject not in steady and attempts[one.subject] < _ATTEMPTS
        if waiting and (one.subject, one.role) not in planned and len(planned) < 2 * _AGAIN:
            planned.append((one.subject, one.role))
    return planned


def _measured_steadily(profile: Profile) -> set[Subject]:
    return {one.subject for one, _ in profile.counted}


def _fitted(profile: Profile) -> LatencyPredictor | None:
    """A predictor fitted to the measurements so far; None if they are too few."""
    steady = _measured_steadily(profile)
    drawn = {m.subject for m in profile.measurements if m.role == "drawn"}
    if len(drawn & steady) < min(_DRAWN // 2, len(drawn)) or not drawn:
        return None
    if profile.unsteady_share > MOST_DISTURBED or not _kinds(profile) <= _kinds_of(profile, steady):
        return None
    return LatencyPredictor(replace(profile, complete=True)).fit()


def _kinds(profile: Profile) -> set[str]:
    """The kinds of kernels in models of the profile's spaces."""
    models = set()
    for space in map(SearchSpace.from_dict, profile.spaces):
        deepest = space.largest
        for compression in space.compression:
            layers = tuple(replace(layer, compression=compression) for layer in deepest.layers)
            models.add(Subject(replace(deepest, layers=layers), profile.workloads[0]))
    return _kinds_of(profile, models)


def _kinds_of(profile: Profile, subjects: set[Subject]) -> set[str]:
    first_token = profile.target.first_token_last_layer
    return {
        kernel.kind
        for subject in subjects
        for kernel in subject.kernels(first_token_last_layer=first_token)
    }


def _error(predictor: LatencyPredictor | None) -> float | None:
    """Mean relative error on drawn models, each predicted from all other measurements."""
    return None if predictor is None else predictor.errors().mape_percent / 100
