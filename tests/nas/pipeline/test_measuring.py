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
from nas.pipeline.measuring import load_predictor, profile_stage, teacher_ms
from nas.pipeline.recipe import load_recipe
from nas.pipeline.request import Aim
from nas.pipeline.stage import Workbench
from nas.store.workspace import Artifact, Workspace
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
    kept = profiled(Measured(profile, pace), tmp_path)
    expected_ms = 3 * float(load_predictor(kept.path).predict([space.largest])[0])
    assert teacher_ms(kept.path, 50) == pytest.approx(expected_ms)
    assert teacher_ms(kept.path, 95) == pytest.approx(1.2 * expected_ms)


def teacher_of(profile: Profile) -> Outline:
    whole = Architecture.uniform(
        num_layers=12, hidden_size=768, num_heads=12, intermediate_size=3072
    )
    return Outline(whole, profile.shape)


def profiled(device: Measured, folder: Path, profile: Profile | None = None) -> Artifact:
    """A device's profile, for a teacher of the shape of that profile or another."""
    aim = Aim(target=device.found.target, budget=Budget.parse("2x"), device=device)
    teacher = teacher_of(profile or device.found)
    stage = profile_stage(aim, load_space("minilm"), teacher, load_recipe("quick"), 0)
    return Workbench(Workspace(folder), Display()).make(stage)


def test_a_profile_is_kept_for_the_machine_that_was_asked_alone(tmp_path: Path) -> None:
    profile = made_profile()
    other = replace(profile, fingerprint=replace(profile.fingerprint, cpu="Cortex-A72"))
    with pytest.raises(NasError, match=r"changed while .*not Cortex-A72.*: retry the search"):
        profiled(Measured(other), tmp_path, profile)
    assert not list(tmp_path.glob("profile/*/profile.json"))
    kept = profiled(Measured(profile), tmp_path)
    assert Profile.load(kept.path / "profile.json") == profile


@dataclass(frozen=True)
class Elsewhere(Measured):
    """A device that says of itself what this machine says."""

    identity: str = ""


def test_what_one_device_measured_never_stands_for_another(tmp_path: Path) -> None:
    """However alike their fingerprints are: an agent says of itself what it likes."""
    profile = made_profile()
    kept = {}
    for name in ("", "ada's pi", "bob's pi"):
        device = Elsewhere(profile, identity=name)
        first, again = (profiled(device, tmp_path) for _ in range(2))
        assert not first.reused
        assert again.reused
        kept[name] = first.key
    assert len(set(kept.values())) == 3
    assert profiled(Measured(profile), tmp_path).key == kept[""]
