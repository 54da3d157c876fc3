import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latency.fingerprint import Fingerprint
from latency.kernels import SIZES, Kernel
from latency.predictor import LatencyPredictor
from latency.profile import Profile, Session
from latency.profile_file import ProfileFile
from latency.profiler import _fitted, profile_device
from latency.runtimes import torch_eager
from latency.target import Target, Workload
from latency.timing import Block, Record
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError
from supernet.space import SearchSpace
from tests.latency.conftest import HASTY

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
LEAST_DRAWN = 10


@pytest.fixture(scope="module", autouse=True)
def briefly_timed():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("latency.profiler._PROTOCOL", HASTY)
        patched.setattr("latency.profiler.LEAST_DRAWN", LEAST_DRAWN)
        yield


def profiled(path, space=SPACE, **changes):
    """Counts what is disturbed too: tests may run beside other work."""
    arguments = {"time_budget_s": 0.1, "count_disturbed": True, "shape": SHAPE, "path": path}
    arguments |= changes
    return profile_device(arguments.pop("target", TARGET), [space], **arguments)


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return profiled(tmp_path_factory.mktemp("profile") / "profile.json")


def subjects(profile, role):
    return [one.subject for one in profile.measurements if one.role == role]


def test_a_profile_covers_its_space(profile):
    assert profile.complete
    drawn = subjects(profile, "drawn")
    assert len(drawn) >= LEAST_DRAWN
    assert all(one.what in SPACE for one in drawn)
    assert set(subjects(profile, "again")) <= set(drawn)
    chosen = {one.what for one in subjects(profile, "chosen")}
    assert {SPACE.largest, SPACE.smallest, Kernel("call", ())} <= chosen
    assert profile.seconds > 0
    assert len(profile.sessions) == 1


def test_a_profile_survives_its_file(profile, tmp_path):
    path = tmp_path / "folder" / "profile.json"
    exact = replace(profile, seconds=100 / 3)
    exact.save(path)
    loaded = Profile.load(path)
    assert loaded == exact
    assert loaded.latencies == profile.latencies
    assert [entry.name for entry in path.parent.iterdir()] == ["profile.json"]


def test_every_field_of_a_profile_survives_its_file(make_profile, tmp_path):
    """None of them at its default."""
    changed = {"count_disturbed": True, "seed": 7, "seconds": 12.5}
    shape = EncoderShape(100, 32, 3, 4, "relu")
    session = Session("2026-01-01T00:00:00+00:00", others_share=0.25)
    profile = replace(make_profile(), shape=shape, sessions=(session,), **changed)
    profile.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path / "profile.json") == profile
    assert Profile.load(tmp_path / "profile.json") != replace(profile, count_disturbed=False)


def test_an_interrupted_profile_goes_on(tmp_path):
    path = tmp_path / "profile.json"

    def interrupt(status):
        if status.measured > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profiled(path, progress=interrupt)
    partial = Profile.load(path)
    assert not partial.complete
    whole = profiled(path)
    assert whole.complete
    assert whole.measurements[: len(partial.measurements)] == partial.measurements
    assert [one.session for one in whole.measurements][-1] == 1
    assert whole.seconds > partial.seconds
    assert profiled(path) == Profile.load(path)  # nothing more to do


@pytest.mark.parametrize("compression", [(1,), (1, 2)])
def test_an_interrupted_opening_is_made_up_for(tmp_path, monkeypatch, compression):
    """Whenever the first measurements were broken off, each kernel of the opening is timed."""
    monkeypatch.setattr("latency.profiler.LEAST_DRAWN", 2 * LEAST_DRAWN)
    space = replace(SPACE, compression=compression)
    path = tmp_path / "profile.json"

    def interrupt(status):
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            profiled(path, space, progress=interrupt)
    whole = profiled(path, space, time_budget_s=0.1)
    timed = {one.subject.what for one in whole.measurements}
    assert {space.largest, space.smallest, Kernel("call", ())} <= timed
    kinds = {one.kind for one in timed if isinstance(one, Kernel)}
    assert kinds == {kind for kind in SIZES if len(compression) > 1 or "factored" not in kind}


def test_nothing_is_fitted_before_every_kind_of_kernel_was_timed(make_profile):
    """Models of whole layers alone tell nothing of compressed ones."""
    whole = make_profile(space="tiny")
    assert _fitted(whole) is not None
    spaces = tuple(space | {"compression": [1, 2]} for space in whole.spaces)
    assert _fitted(replace(whole, spaces=spaces)) is None


def test_more_time_measures_more(tmp_path):
    path = tmp_path / "profile.json"
    short = profiled(path)
    longer = profiled(path, time_budget_s=1.5 * short.seconds)
    assert len(longer.measurements) > len(short.measurements)


def test_a_target_error_ends_it(tmp_path):
    seen = []

    def told(status):
        seen.append(status)
        assert status.measured < 1000, "it goes on, as there is time for days"

    done = profiled(tmp_path / "p.json", time_budget_s=1e6, target_error=3.0, progress=told)
    assert done.complete
    assert seen[-1].measured == len(done.measurements)
    assert 0 < seen[-1].share <= 1


def test_a_grid_is_measured_all_over(tmp_path):
    grid = (Workload(1, 4), Workload(2, 8))
    done = profiled(tmp_path / "p.json", workloads=grid)
    assert {one.subject.workload for one in done.measurements} == set(grid)
    assert done.workloads == grid


def test_all_is_built_in_the_profiles_shape_on_the_targets_threads(monkeypatch):
    seen = set()

    def built(*of, shape, **how):
        seen.add((shape, torch.get_num_threads()))
        return lambda *inputs: seen.add((shape, torch.get_num_threads()))

    runtime = SimpleNamespace(kernel=built, model=built, threads=torch_eager.threads)
    monkeypatch.setattr("latency.profiler.runtime_of", lambda target: runtime)
    before = torch.get_num_threads()
    shape = replace(SHAPE, hidden_act="relu")
    long = Target(threads=before + 1, batch_size=1, sequence_length=16)
    assert profiled(None, target=long, shape=shape).shape == shape
    assert {threads for _, threads in seen} == {before + 1}
    assert {one.hidden_act for one, _ in seen} == {"relu"}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": replace(SHAPE, hidden_act="relu")}, "hidden_act='relu'"),
        ({"target": replace(TARGET, threads=2)}, "threads 1, the target asks for 2"),
        ({"seed": 5}, "other seed"),
        ({"workloads": (Workload(1, 4), Workload(1, 8))}, "other workloads"),
    ],
)
def test_a_file_of_something_else_is_not_continued(profile, tmp_path, change, says):
    path = tmp_path / "profile.json"
    profile.save(path)
    with pytest.raises(NasError, match=says) as caught:
        profiled(path, **change)
    assert str(path) in str(caught.value)
    assert Profile.load(path).measurements == profile.measurements


@pytest.mark.parametrize(
    ("name", "value"), [("cpu", "Z80"), ("governor", "powersave"), ("memory_gib", 1)]
)
def test_another_machines_file_is_not_continued(profile, tmp_path, name, value):
    path = tmp_path / "profile.json"
    data = profile.to_dict()
    data["fingerprint"][name] = value
    path.write_text(json.dumps(data))
    with pytest.raises(NasError, match=f"{name}: {value}, not"):
        profiled(path)


def at_pace(profile, pace):
    """The same measurements by a process in which everything takes ``pace`` times as long."""
    slower = [
        replace(one, record=Record(tuple(
            Block(
                tuple(pace * ms for ms in b.samples_ms),
                pace * b.reference_ms,
                pace * b.round_reference_ms,
                b.preemptions,
            )
            for b in one.record.blocks
        )))
        for one in profile.measurements
    ]  # fmt: skip
    return replace(profile, measurements=tuple(slower))


def test_merging_keeps_all_and_brings_it_to_one_pace(profile):
    merged = profile.merged(at_pace(profile, 1.2))
    assert len(merged.measurements) == 2 * len(profile.measurements)
    assert len(merged.sessions) == 2
    steady = np.array([one.steady_ms for one in merged.latencies])
    first, second = np.split(steady, 2)
    np.testing.assert_allclose(first, second, rtol=1e-9)
    np.testing.assert_allclose(first, 1.1 * np.array([x.steady_ms for x in profile.latencies]))
    assert merged.seconds == 2 * profile.seconds


def test_merging_widens_what_is_covered(profile):
    other = replace(
        at_pace(profile, 1.2),
        workloads=(Workload(4, 16),),
        spaces=(SPACE.to_dict() | {"name": "other"},),
    )
    moved = [
        replace(m, subject=replace(m.subject, workload=Workload(4, 16))) for m in other.measurements
    ]
    merged = profile.merged(replace(other, measurements=tuple(moved)))
    merged.check_serves(TARGET.of(Workload(2, 12)))
    assert [space["name"] for space in merged.spaces] == ["small", "other"]


def test_a_profile_is_not_merged_with_itself_or_what_is_not_complete(profile):
    with pytest.raises(NasError, match="the same measurements"):
        profile.merged(profile)
    with pytest.raises(NasError, match="not complete"):
        profile.merged(replace(at_pace(profile, 1.2), complete=False))


def test_a_grid_serves_what_lies_between_its_workloads(profile):
    bent = replace(profile, workloads=(Workload(1, 16), Workload(8, 4)))
    bent.check_serves(TARGET.of(Workload(8, 4)))
    for outside in (Workload(8, 16), Workload(1, 2), Workload(4, 8)):
        with pytest.raises(NasError, match="what lies between"):
            bent.check_serves(TARGET.of(outside))


def test_profiles_of_two_machines_are_not_merged(profile):
    other = replace(profile, fingerprint=replace(profile.fingerprint, cpu="Z80"))
    with pytest.raises(NasError, match=r"cpu: .*, not Z80"):
        profile.merged(other)


def test_warnings_say_what_was_amiss(profile):
    def at(reference_ms, preemptions=0):
        return Record((Block((1.0,), reference_ms, reference_ms, preemptions),) * 4)

    def told(records):
        session = Session("2026-01-01T00:00:00+00:00", others_share=0.4)
        measurements = [
            replace(one, record=record, session=0)
            for one, record in zip(profile.measurements[: len(records)], records, strict=True)
        ]
        found = replace(profile, sessions=(session,), measurements=tuple(measurements))
        return replace(found, count_disturbed=False).warnings()

    count = len(profile.measurements)
    assert told([at(1.0)] * count) == []
    (slowing,) = told([at(1.0 + 0.14 * (n > count / 2)) for n in range(count)])
    assert "throttled: the reference ended 14% slower" in slowing
    (slowing,) = told([at(1.0 + 0.14 * (n > 8)) for n in range(15)])
    assert "throttled" in slowing
    assert told([at(1.0 + 0.14 * (n > 8)) for n in range(14)]) == [], "a fifth is too little"
    (busy,) = told([at(1.0, preemptions=n % 4) for n in range(count)])
    assert "disturbed: 7" in busy
    assert "used 40% of the machine" in busy
    crowded = replace(profile, target=replace(profile.target, threads=1000)).warnings()[0]
    assert "crowded: 1000 threads" in crowded


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data | {"format": "recipe"}, "not a latency profile"),
        (lambda data: data | {"version": 99}, "version 99"),
        (lambda data: data | {"version": 2}, "measure the device again"),
        (lambda data: data | {"shape": {"vocabulary": 3}}, "damaged: shape"),
        (lambda data: {k: v for k, v in data.items() if k != "seed"}, "damaged: seed"),
        (lambda data: data | {"measurements": [{}]}, "damaged: measurements.0"),
        (lambda data: data | {"measurements": 3}, "damaged: measurements"),
        (lambda data: data | {"target": {"threads": 0}}, "target"),
        (lambda data: data | {"sessions": []}, "session"),
        (lambda data: data | {"workloads": []}, "workloads"),
        (lambda data: data | {"surprise": 1}, "surprise"),
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


def places(data, path=()):
    """Every entry of nested JSON, by the keys that lead there."""
    yield path
    entries = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in entries:
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_a_file_holds_it_is_a_profile_or_one_clear_line(profile, data):
    """Any entry replaced by anything, or removed: sound, or refused by a NasError of one line."""
    few = replace(profile, measurements=profile.measurements[:6])
    content = json.loads(json.dumps(few.to_dict()))
    path = data.draw(st.sampled_from(list(places(content))[1:]))
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    if isinstance(parent, dict) and data.draw(st.booleans()):
        del parent[path[-1]]
    else:
        parent[path[-1]] = data.draw(values)
    try:
        loaded = Profile.from_dict(content)
    except NasError as error:
        message = str(error)
    else:
        message = " ".join(loaded.warnings())
        assert Profile.from_dict(loaded.to_dict()) == loaded
    assert "\n" not in message


def test_the_schema_is_versioned():
    schema = ProfileFile.model_json_schema()
    assert schema["properties"]["version"]["const"] == 3
    assert "measurements" in schema["required"]


def test_a_missing_or_torn_file_is_one_clear_line(tmp_path):
    with pytest.raises(NasError, match="cannot be read"):
        Profile.load(tmp_path / "none.json")
    for torn in ('{"format": "tailor', "[" * 100_000):
        (tmp_path / "torn.json").write_text(torn)
        with pytest.raises(NasError, match="not valid JSON"):
            Profile.load(tmp_path / "torn.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(NasError):
        Profile.load(tmp_path / "binary.json")


def test_a_sequence_beyond_the_positions_is_refused(tmp_path):
    with pytest.raises(NasError, match="sequence_length"):
        profiled(tmp_path / "p.json", target=replace(TARGET, sequence_length=17))


def test_a_real_profile_predicts_its_own_space(profile):
    """End to end on this machine: finite, positive, and slower for the largest."""
    predictor = LatencyPredictor(profile).fit()
    largest, smallest = predictor.predict([SPACE.largest, SPACE.smallest])
    assert 0 < smallest < largest
    deeper = Architecture(32, SPACE.largest.layers * 2)
    assert predictor.predict([deeper])[0] > largest


def test_fingerprint_survives_and_compares():
    mine = Fingerprint.of_this_machine(TARGET)
    assert Fingerprint.from_dict(json.loads(json.dumps(mine.to_dict()))) == mine
    assert mine.cores >= 1
    assert mine.cpu
    assert set(mine.versions) == {"python", "onnxruntime"}
    other = replace(mine, governor="powersave", versions={"python": "2.7"})
    assert [line.partition(":")[0] for line in mine.differences(other)] == ["governor", "versions"]
    assert mine.differences(mine) == []
    with pytest.raises(NasError, match="fingerprint"):
        Fingerprint.from_dict({"cpu": "Z80"})
