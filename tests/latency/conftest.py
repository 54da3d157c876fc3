"""A made-up device whose profile costs no measuring."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from latency.calls import calls_of
from latency.fingerprint import Fingerprint
from latency.profile import Measurement, Profile, Session
from latency.static_design import assumed_ms, static_design
from latency.target import Target, Workload
from latency.timing import Block, Protocol, Record
from supernet.architecture import EncoderShape
from supernet.configs import load_space

MakeProfile = Callable[..., Profile]

HASTY = Protocol(rounds=3, extra_rounds=0, settle_ms=0.1, block_ms=0.2, patience_ms=0.0)
"""Too short to tell anything of the device; for tests that need some measurements."""


def made_profile(
    *,
    space: str = "minilm",
    workloads: tuple[Workload, ...] = (Workload(1, 64),),
    slowdown: float = 1.0,
    seed: int = 0,
) -> Profile:
    """A complete profile of a quiet device; ``slowdown`` times as slow as another."""
    target = Target(
        threads=1,
        batch_size=workloads[0].batch_size,
        sequence_length=workloads[0].sequence_length,
    )
    spaces = [load_space(space)]
    plan = static_design(spaces, workloads, chosen=50, drawn=30, seed=seed)
    times = assumed_ms(calls_of([one for one, _ in plan], first_token_last_layer=True))
    rng = np.random.default_rng(seed)

    def record(milliseconds: float) -> Record:
        samples = slowdown * milliseconds * (1 + 0.01 * rng.random((10, 3)))
        return Record(tuple(Block(tuple(map(float, row)), 1.0, 1.0, 0) for row in samples))

    return Profile(
        target=target,
        workloads=workloads,
        fingerprint=Fingerprint.of_this_machine(target),
        spaces=tuple(one.to_dict() for one in spaces),
        shape=EncoderShape(),
        seed=seed,
        seconds=60.0,
        complete=True,
        sessions=(Session("2026-01-01T00:00:00+00:00"),),
        measurements=tuple(
            Measurement(subject, role, 0, record(ms))
            for (subject, role), ms in zip(plan, times, strict=True)
        ),
    )


@pytest.fixture(scope="session")
def make_profile() -> MakeProfile:
    """Makes complete profiles of a quiet device."""
    return made_profile
