"""The stages that measure: whose measurements they keep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from latency.device import ThisMachine
from latency.profile import Profile
from latency.target import Budget
from nas.device import profile_target
from nas.progress import Display
from nas.recipe import load_recipe
from nas.request import Request, Run
from nas.workspace import Workspace
from supernet.configs import load_space
from supernet.errors import NasError
from tests.latency.conftest import made_profile


@dataclass(frozen=True)
class Measured(ThisMachine):
    """This machine, with a profile that is there already."""

    found: Profile

    def profile(self, *_: Any, **__: Any) -> Profile:
        return self.found


def test_a_profile_is_kept_for_the_machine_that_was_asked_alone(tmp_path: Path) -> None:
    profile, space = made_profile(), load_space("minilm")
    request = Request(
        teacher="unused",
        data="unused",
        recipe=load_recipe("quick"),
        budget=Budget.parse("2x"),
        space=space,
        target=profile.target,
    )
    ours = Run(request, Workspace(tmp_path), Display(), device=Measured(profile))
    other = replace(profile, fingerprint=replace(profile.fingerprint, cpu="Cortex-A72"))
    theirs = replace(ours, device=Measured(other))
    with pytest.raises(NasError, match=r"changed while .*not Cortex-A72.*: retry the search"):
        profile_target(theirs, space, profile.shape)
    assert not list(tmp_path.glob("profile/*/profile.json"))
    kept = profile_target(ours, space, profile.shape)
    assert Profile.load(kept.path / "profile.json") == profile
