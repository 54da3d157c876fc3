"""The stages that measure: whose measurements they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from latency.device import ThisMachine
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.target import Budget, Latency
from nas.models.teacher import Outline
from nas.pipeline.measuring import load_predictor, profile_target, teacher_ms
from nas.pipeline.recipe import load_recipe
from nas.pipeline.request import Request, Run
from nas.store.workspace import Workspace
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.configs import load_space
from supernet.errors import NasError
from tests.latency.conftest import made_profile


@dataclass(frozen=True)
class Measured(ThisMachine):
    """This machine, with a profile that is there already, and a clock that is told what to show.

    Args:
        pace: of the clock: times the latency that the profile lets expect of the space's largest.
    """

    found: Profile
    pace: float = 1.0

    def profile(self, *_: Any, **__: Any) -> Profile:
        return self.found

    def time(self, models: Sequence[Any], *_: Any, **__: Any) -> list[Latency]:
        _, largest = models
        reference_ms = self.pace * float(LatencyPredictor(self.found).fit().predict([largest])[0])
        return [latency_of(3 * reference_ms), latency_of(reference_ms)]


def latency_of(p50_ms: float) -> Latency:
    return Latency(p50_ms, 1.2 * p50_ms, p50_ms, p50_ms, (p50_ms,))


@pytest.mark.parametrize("pace", [1.0, 2.5])
def test_the_teacher_is_timed_at_the_profiles_pace(tmp_path: Path, pace: float) -> None:
    """Three times the space's largest, however slow the moment is in which both are timed."""
    profile, space = made_profile(), load_space("minilm")
    run = run_on(Measured(profile, pace), tmp_path, "2x")
    kept = profile_target(run, space, teacher_of(profile))
    expected_ms = 3 * float(load_predictor(kept).predict([space.largest])[0])
    assert teacher_ms(run, kept) == pytest.approx(expected_ms)
    slow_moments = run_on(Measured(profile, pace), tmp_path, "2x@p95")
    assert teacher_ms(slow_moments, kept) == pytest.approx(1.2 * expected_ms)


def teacher_of(profile: Profile) -> Outline:
    whole = Architecture.uniform(
        num_layers=12, hidden_size=768, num_heads=12, intermediate_size=3072
    )
    return Outline(whole, profile.shape)


def run_on(device: Measured, folder: Path, budget: str) -> Run:
    request = Request(
        teacher="unused",
        data="unused",
        recipe=load_recipe("quick"),
        budget=Budget.parse(budget),
        space=load_space("minilm"),
        target=device.found.target,
    )
    return Run(request, Workspace(folder), Display(), device=device)


def test_a_profile_is_kept_for_the_machine_that_was_asked_alone(tmp_path: Path) -> None:
    profile, space = made_profile(), load_space("minilm")
    ours = run_on(Measured(profile), tmp_path, "2x")
    other = replace(profile, fingerprint=replace(profile.fingerprint, cpu="Cortex-A72"))
    theirs = replace(ours, device=Measured(other))
    with pytest.raises(NasError, match=r"changed while .*not Cortex-A72.*: retry the search"):
        profile_target(theirs, space, teacher_of(profile))
    assert not list(tmp_path.glob("profile/*/profile.json"))
    kept = profile_target(ours, space, teacher_of(profile))
    assert Profile.load(kept.path / "profile.json") == profile


@dataclass(frozen=True)
class Elsewhere(Measured):
    """A device that says of itself what this machine says."""

    identity: str = ""


def test_what_one_device_measured_never_stands_for_another(tmp_path: Path) -> None:
    """However alike their fingerprints are: an agent says of itself what it likes."""
    profile, space = made_profile(), load_space("minilm")
    kept = {}
    for name in ("", "ada's pi", "bob's pi"):
        run = run_on(Elsewhere(profile, identity=name), tmp_path, "2x")
        first, again = (profile_target(run, space, teacher_of(profile)) for _ in range(2))
        assert not first.reused
        assert again.reused
        kept[name] = first.key
    assert len(set(kept.values())) == 3
    plain = profile_target(run_on(Measured(profile), tmp_path, "2x"), space, teacher_of(profile))
    assert plain.key == kept[""]
