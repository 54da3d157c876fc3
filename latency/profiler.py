"""Measures a profile: chooses what to measure, times it in small groups, keeps what it has."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from latency.design import kernel_design, model_design
from latency.fingerprint import Fingerprint
from latency.kernels import STACKED, Kernel
from latency.profile import KernelRecord, ModelRecord, Profile
from latency.runtimes import Runtime, bound, runtime_of, workload
from latency.target import Target
from latency.timing import Protocol, record
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError
from supernet.space import SearchSpace

ProfileProgress = Callable[[float], None]
"""Called with the share of the profile that is done, from 0 to 1."""

REFERENCE = Kernel("feed_forward", (256, 1024))
"""The reference kernel, run beside everything in the target's runtime."""

KERNELS = {
    "embedding": 6,
    "attention": 40,
    "feed_forward": 28,
    "first_token_attention": 20,
    "first_token_feed_forward": 12,
    "head": 6,
}
MODELS = 28
REPEATED = 10
"""Models built and measured a second time, for the repeatability floor."""
COPIES = 4
"""Layers' kernels in one call, so that they meet weights that are not in the nearest cache."""

Subject = Kernel | Architecture
"""What is measured."""

_log = logging.getLogger(__name__)
_GROUP = 8  # measured side by side, and held in memory together
_BUILD_SHARE = 0.2  # of the time goes into building what is measured


def profile_device(
    target: Target,
    space: SearchSpace,
    *,
    time_budget_s: float = 90.0,
    seed: int = 0,
    path: Path | None = None,
    shape: EncoderShape = EncoderShape(),
    progress: ProfileProgress | None = None,
) -> Profile:
    """Measure what a latency predictor of ``space`` on ``target`` needs.

    Args:
        time_budget_s: measuring stops getting more precise after so many seconds; on a slow
            device the least that is useful may take longer.
        path: where the profile is kept after every group, and continued from if it is there. It
            is measured afresh, with a warning, where what is there had less time, or was planned
            by another version of this module.
        shape: what all models have besides what is searched, their activation above all.

    Raises:
        NasError: ``path`` holds a profile of another target, machine, space, shape or seed.
    """
    runtime = runtime_of(target)
    subjects = _subjects(space, runtime, seed)
    fresh = Profile(
        target=target,
        fingerprint=Fingerprint.of_this_machine(),
        space=space.to_dict(),
        shape=shape,
        seed=seed,
        time_budget_s=time_budget_s,
    )
    profile = _continued(fresh, subjects, path)
    if profile.complete:
        return profile
    with runtime.threads(target):
        return _measured(profile, subjects, runtime, path, progress)


def _continued(fresh: Profile, subjects: Sequence[Subject], path: Path | None) -> Profile:
    """What ``path`` holds of the profile that is wanted, else ``fresh``, which holds nothing.

    Raises:
        NasError: ``path`` holds a profile of something else.
    """
    if path is None or not path.exists():
        return fresh
    kept = Profile.load(path)
    for name in ("target", "space", "shape", "seed"):
        theirs, ours = getattr(kept, name), getattr(fresh, name)
        if theirs != ours:
            raise NasError(
                f"profile {path} is of {name} {theirs}, not of {ours}; give another path"
            )
    if kept.fingerprint != fresh.fingerprint:
        raise NasError(
            f"profile {path} was measured on {kept.fingerprint} with other software or another "
            f"machine than this ({fresh.fingerprint}); give another path"
        )
    if kept.time_budget_s < fresh.time_budget_s:
        _log.warning(
            "profile %s had %g s, not the %g s that it is given now: measured afresh",
            path,
            kept.time_budget_s,
            fresh.time_budget_s,
        )
        return fresh
    if not _is_start_of(subjects, kept):
        _log.warning("profile %s holds other kernels or models than planned: measured afresh", path)
        return fresh
    return kept if kept.complete else replace(kept, time_budget_s=fresh.time_budget_s)


def _is_start_of(subjects: Sequence[Subject], kept: Profile) -> bool:
    """Whether a profile holds the first of what is planned; or all of it, where it is complete."""
    count = len(kept.kernels) + len(kept.models)
    kernels = [(s, _copies(s)) for s in subjects[:count] if isinstance(s, Kernel)]
    models = [s for s in subjects[:count] if isinstance(s, Architecture)]
    return (
        [(entry.kernel, entry.copies) for entry in kept.kernels] == kernels
        and [entry.architecture for entry in kept.models] == models
        and kept.complete == (count == len(subjects))
    )


def _measured(
    profile: Profile,
    subjects: Sequence[Subject],
    runtime: Runtime,
    path: Path | None,
    progress: ProfileProgress | None,
) -> Profile:
    """``profile`` with the rest of ``subjects``, kept in ``path`` after every group."""
    target, shape, seed = profile.target, profile.shape, profile.seed
    inputs = workload(target, shape, seed=seed)
    reference = runtime.kernel(REFERENCE, target, shape=shape)

    def build(subject: Subject) -> Callable[[], object]:
        if isinstance(subject, Kernel):
            return runtime.kernel(subject, target, shape=shape, copies=_copies(subject), seed=seed)
        return bound(runtime.model(subject, target, shape=shape, seed=seed), inputs)

    pending = subjects[len(profile.kernels) + len(profile.models) :]
    groups = [pending[start : start + _GROUP] for start in range(0, len(pending), _GROUP)]
    share_s = profile.time_budget_s * (1 - _BUILD_SHARE) / math.ceil(len(subjects) / _GROUP)
    for index, group in enumerate(groups):
        measured = record(
            [build(subject) for subject in group],
            reference=reference,
            protocol=Protocol(limit_s=share_s),
        )
        pairs = list(zip(group, measured, strict=True))
        profile = profile.with_records(
            tuple(KernelRecord(s, _copies(s), r) for s, r in pairs if isinstance(s, Kernel)),
            tuple(ModelRecord(s, r) for s, r in pairs if isinstance(s, Architecture)),
            complete=index == len(groups) - 1,
        )
        if path:
            profile.save(path)
        if progress:
            progress((len(profile.kernels) + len(profile.models)) / len(subjects))
    return profile


def _subjects(space: SearchSpace, runtime: Runtime, seed: int) -> list[Subject]:
    """All that a profile measures, in order.

    Shuffled, so that no kind falls into one bad minute; repetitions come last, far from the
    first measurement.
    """
    rng = np.random.default_rng(seed)
    kernels = kernel_design(
        space, KERNELS, first_token_last_layer=runtime.FIRST_TOKEN_LAST_LAYER, rng=rng
    )
    models = model_design(space, MODELS, rng=rng)
    subjects: list[Subject] = [*kernels, *models]
    return [subjects[row] for row in rng.permutation(len(subjects))] + models[:REPEATED]


def _copies(kernel: Kernel) -> int:
    return COPIES if kernel.kind in STACKED else 1
