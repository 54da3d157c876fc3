"""Measures a profile: chooses what to measure, times it in small groups, keeps what it has."""

from __future__ import annotations

import math
from collections.abc import Callable
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
        path: where the profile is kept after every group, and continued from if it is there.
        shape: vocabulary, positions and labels of the whole models.

    Raises:
        NasError: ``path`` holds a profile of another target, machine, space or seed.
    """
    profile = _start(target, space, seed, path)
    if profile.complete:
        return profile
    runtime = runtime_of(target)
    subjects = _subjects(space, runtime, seed)
    pending = subjects[len(profile.kernels) + len(profile.models) :]
    inputs = workload(target, shape, seed=seed)
    reference = runtime.kernel(REFERENCE, target)

    def build(subject: Kernel | Architecture) -> Callable[[], object]:
        if isinstance(subject, Kernel):
            return runtime.kernel(subject, target, copies=_copies(subject), seed=seed)
        return bound(runtime.model(subject, target, shape=shape, seed=seed), inputs)

    groups = [pending[start : start + _GROUP] for start in range(0, len(pending), _GROUP)]
    share_s = time_budget_s * (1 - _BUILD_SHARE) / math.ceil(len(subjects) / _GROUP)
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


def _start(target: Target, space: SearchSpace, seed: int, path: Path | None) -> Profile:
    """The profile at ``path`` if it is there, else an empty one."""
    fresh = Profile(
        target=target,
        fingerprint=Fingerprint.of_this_machine(),
        space=space.to_dict(),
        seed=seed,
    )
    if path is None or not path.exists():
        return fresh
    kept = Profile.load(path)
    if (kept.target, dict(kept.space), kept.seed) != (target, space.to_dict(), seed):
        raise NasError(
            f"profile {path} is of target {kept.target}, space {kept.space.get('name')}, seed "
            f"{kept.seed}, not of target {target}, space {space.name}, seed {seed}"
        )
    if kept.fingerprint != fresh.fingerprint:
        raise NasError(
            f"profile {path} was measured on {kept.fingerprint} with other software or another "
            f"machine than this ({fresh.fingerprint}); give another path"
        )
    return kept


def _subjects(space: SearchSpace, runtime: Runtime, seed: int) -> list[Kernel | Architecture]:
    """All that a profile measures, in order.

    Shuffled, so that no kind falls into one bad minute; repetitions come last, far from the
    first measurement.
    """
    rng = np.random.default_rng(seed)
    kernels = kernel_design(
        space, KERNELS, first_token_last_layer=runtime.FIRST_TOKEN_LAST_LAYER, rng=rng
    )
    models = model_design(space, MODELS, rng=rng)
    subjects = [*kernels, *models]
    return [subjects[row] for row in rng.permutation(len(subjects))] + models[:REPEATED]


def _copies(kernel: Kernel) -> int:
    return COPIES if kernel.kind in STACKED else 1
