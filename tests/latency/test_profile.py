import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from latency.fingerprint import Fingerprint
from latency.kernels import kernels_of
from latency.profile import Profile
from latency.profiler import COPIES, MODELS, REPEATED, profile_device
from latency.runtimes import torch_eager
from latency.target import Target
from supernet.architecture import EncoderShape
from supernet.errors import NasError
from supernet.space import SearchSpace

TARGET = Target(threads=1, batch_size=1, sequence_length=8)
SPACE = SearchSpace.from_dict(
    {
        "name": "small",
        "num_layers": [1, 2, 3],
        "hidden_size": [16, 32],
        "num_heads": [1, 2],
        "qkv_size": [16, 32],
        "intermediate_size": [32, 64, 128],
        "uniform": True,
    }
)
SHAPE = EncoderShape(vocab_size=64, max_positions=16)


def profiled(path, **changes):
    arguments = {"time_budget_s": 0.1, "shape": SHAPE, "path": path} | changes
    return profile_device(arguments.pop("target", TARGET), SPACE, **arguments)


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return profiled(tmp_path_factory.mktemp("profile") / "profile.json")


def test_a_profile_covers_its_space(profile):
    assert profile.complete
    assert len(profile.models) == MODELS + REPEATED
    measured = {entry.kernel for entry in profile.kernels}
    assert set(kernels_of(SPACE.largest, first_token_last_layer=True)) <= measured
    assert {SPACE.largest, SPACE.smallest} <= {entry.architecture for entry in profile.models}
    assert all(entry.architecture in SPACE for entry in profile.models)


def test_a_profile_survives_its_file(profile, tmp_path):
    path = tmp_path / "folder" / "profile.json"
    profile.save(path)
    loaded = Profile.load(path)
    assert loaded == profile
    assert [entry.name for entry in path.parent.iterdir()] == ["profile.json"]


def test_an_interrupted_profile_goes_on(tmp_path):
    path = tmp_path / "profile.json"

    def interrupt(share):
        if share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profiled(path, progress=interrupt)
    partial = Profile.load(path)
    assert not partial.complete
    whole = profiled(path)
    assert whole.complete
    assert whole.kernels[: len(partial.kernels)] == partial.kernels
    assert whole.models[: len(partial.models)] == partial.models
    subjects = {entry.kernel for entry in whole.kernels}
    assert len(subjects) == len(whole.kernels)
    assert profiled(path) == whole  # nothing more to do


def test_all_is_built_in_the_profiles_shape_on_the_targets_threads(monkeypatch):
    seen = set()

    def built(*of, shape, **how):
        seen.add((shape, torch.get_num_threads()))
        return lambda *inputs: seen.add((shape, torch.get_num_threads()))

    runtime = SimpleNamespace(
        FIRST_TOKEN_LAST_LAYER=False, kernel=built, model=built, threads=torch_eager.threads
    )
    monkeypatch.setattr("latency.profiler.runtime_of", lambda target: runtime)
    before = torch.get_num_threads()
    shape = replace(SHAPE, max_positions=1024, hidden_act="relu")
    long = Target(threads=before + 1, batch_size=1, sequence_length=1024)
    assert profiled(None, target=long, shape=shape).shape == shape
    assert seen == {(shape, before + 1)}
    assert torch.get_num_threads() == before


def save_changed(profile, path, **changes):
    replace(profile, **changes).save(path)
    return path


def test_a_profile_that_had_more_time_serves(profile, tmp_path):
    path = save_changed(profile, tmp_path / "profile.json", time_budget_s=90.0)
    assert profiled(path) == Profile.load(path)
    assert Profile.load(path).time_budget_s == 90.0


def test_a_profile_that_had_less_time_is_measured_afresh(profile, tmp_path, caplog):
    path = save_changed(profile, tmp_path / "profile.json", time_budget_s=0.05)
    again = profiled(path)
    assert again.complete
    assert again.time_budget_s == 0.1
    assert again.kernels != profile.kernels
    (message,) = caplog.messages
    assert "0.05 s" in message
    assert str(path) in message


@pytest.mark.parametrize(
    "changed",
    [
        lambda profile: {"kernels": profile.kernels[1:], "complete": False},
        lambda profile: {"models": profile.models[:-1]},
        lambda profile: {"models": profile.models[::-1]},
        lambda profile: {"kernels": tuple(replace(k, copies=COPIES + 1) for k in profile.kernels)},
    ],
    ids=["other kernels", "fewer models", "another order", "other copies"],
)
def test_a_profile_of_another_plan_is_measured_afresh(profile, tmp_path, caplog, changed):
    path = save_changed(profile, tmp_path / "profile.json", **changed(profile))
    again = profiled(path)
    assert again.complete
    assert [k.kernel for k in again.kernels] == [k.kernel for k in profile.kernels]
    assert [m.architecture for m in again.models] == [m.architecture for m in profile.models]
    assert again.models[0] != profile.models[0]
    assert "measured afresh" in " ".join(caplog.messages)


def test_another_shapes_file_is_not_continued(profile, tmp_path):
    path = save_changed(profile, tmp_path / "profile.json")
    with pytest.raises(NasError, match="hidden_act='relu'"):
        profiled(path, shape=replace(SHAPE, hidden_act="relu"))


def test_another_targets_file_is_not_continued(profile, tmp_path):
    path = tmp_path / "profile.json"
    profile.save(path)
    with pytest.raises(NasError, match="2 threads"):
        profiled(path, target=Target(threads=2, batch_size=1, sequence_length=8))


def test_another_machines_file_is_not_continued(profile, tmp_path):
    path = tmp_path / "profile.json"
    data = profile.to_dict()
    data["fingerprint"]["cpu"] = "Z80"
    path.write_text(json.dumps(data))
    with pytest.raises(NasError, match="Z80"):
        profiled(path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data | {"format": "recipe"}, "not a latency profile"),
        (lambda data: data | {"version": 99}, "version 99"),
        (lambda data: data | {"version": 1}, "measure the device again"),
        (lambda data: data | {"shape": {"vocabulary": 3}}, "damaged"),
        (lambda data: {k: v for k, v in data.items() if k != "models"}, "damaged"),
        (lambda data: data | {"kernels": [{}]}, "damaged"),
        (lambda data: data | {"kernels": 3}, "damaged"),
        (lambda data: data | {"target": {"threads": 0}}, "target"),
        (lambda data: [data], "not a latency profile"),
    ],
)
def test_a_damaged_file_is_one_clear_line(profile, tmp_path, damage, says):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(damage(profile.to_dict())))
    with pytest.raises(NasError, match=says) as caught:
        Profile.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_torn_file_is_one_clear_line(tmp_path):
    with pytest.raises(NasError, match="cannot be read"):
        Profile.load(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"format": "tailor')
    with pytest.raises(NasError, match="not valid JSON"):
        Profile.load(tmp_path / "torn.json")


def test_a_sequence_beyond_the_positions_is_refused(tmp_path):
    with pytest.raises(NasError, match="sequence_length"):
        profiled(tmp_path / "p.json", target=Target(threads=1, batch_size=1, sequence_length=17))


def test_fingerprint_survives_and_compares():
    mine = Fingerprint.of_this_machine()
    assert Fingerprint.from_dict(json.loads(json.dumps(mine.to_dict()))) == mine
    assert mine.cores >= 1
    assert mine.cpu
    with pytest.raises(NasError, match="fingerprint"):
        Fingerprint.from_dict({"cpu": "Z80"})
