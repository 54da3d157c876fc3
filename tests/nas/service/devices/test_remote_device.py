"""A device elsewhere: a service that listens, an agent in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import onnx
import pytest
import sqlalchemy as sa

from latency.asked import ProfileAsked
from latency.fingerprint import Fingerprint
from latency.onnx_graph import classifier_model
from latency.profile import Profile
from latency.profiler import Status
from latency.target import Target
from nas.service.access.tokens import create_token
from nas.service.database.tables import targets, tasks
from nas.service.devices import remote_device
from nas.service.devices.remote_device import RemoteDevice
from nas.service.devices.targets import find_target, register_target, store_profile
from nas.service.devices.tasks import claim_task, forget_tasks
from nas.service.service import Service
from supernet.architecture import Architecture, EncoderShape
from supernet.configs import load_space
from supernet.errors import NasError
from supernet.space import SearchSpace
from tests.latency.conftest import MakeProfile, make_profile  # noqa: F401 - a fixture
from tests.nas.service.agent_process import agent_process
from tests.nas.service.live import serving, wait_for
from tests.ports import free_port

SPACE = SearchSpace(
    name="small",
    num_layers=(1, 2),
    hidden_size=(16, 32),
    num_heads=(2,),
    qkv_size=None,
    intermediate_size=(32, 64),
)
SHAPE = EncoderShape(vocab_size=64, max_positions=32)
TARGET = Target(threads=1, batch_size=1, sequence_length=16)
FORKS = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def libraries_loaded() -> None:
    FORKS.set_forkserver_preload(["latency.agent", "latency.runtimes.onnx_runtime", "scipy.stats"])


class Pi:
    """A device whose agent is started and ended by a test."""

    def __init__(self, folder: Path, address: str, token: str) -> None:
        self.folder = folder
        (folder / "token").write_text(token)
        (folder / "target.yaml").write_text("{threads: 1, batch_size: 1, sequence_length: 16}")
        self.arguments = [
            f"--server={address}",
            "--name=pi",
            f"--token-file={folder / 'token'}",
            f"--target={folder / 'target.yaml'}",
            f"--state={folder / 'state'}",
        ]
        self.process: ForkServerProcess | None = None

    def start(self) -> None:
        self.process = FORKS.Process(target=agent_process, args=(str(self.folder), self.arguments))
        self.process.start()

    def end(self, number: int = signal.SIGKILL) -> int | None:
        assert self.process is not None
        assert self.process.pid is not None
        if self.process.exitcode is None:
            os.kill(self.process.pid, number)
        self.process.join()
        return self.process.exitcode

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def pi(service: Service, port: int, tmp_path: Path) -> Iterator[Pi]:
    _, token = create_token(service.engine, "ada", ["device"])
    found = Pi(tmp_path, f"http://127.0.0.1:{port}", token)
    yield found
    if found.process is not None:
        found.end()


@pytest.fixture
def device(service: Service) -> RemoteDevice:
    register_target(service.engine, service.settings.data, "pi", "ada", TARGET, most=1)
    return remote(service)


def remote(service: Service, patience_s: float = 120.0) -> RemoteDevice:
    return RemoteDevice(service.engine, service.settings.data, "pi", "s1", 1, patience_s)


def test_a_registration_is_a_device_of_its_own(service: Service, device: RemoteDevice) -> None:
    """Another owner's, another name, and the same name given anew are other devices."""
    engine, data = service.engine, service.settings.data
    told = Fingerprint.of_this_machine(TARGET)
    first = device.identity
    register_target(engine, data, "pi", "ada", TARGET, fingerprint=told, most=1)
    assert device.identity == first
    register_target(engine, data, "lamp", "bob", TARGET, fingerprint=told, most=1)
    other = replace(device, name="lamp").identity
    with engine.begin() as connection:
        connection.execute(sa.delete(targets).where(targets.c.name == "pi"))
    register_target(engine, data, "pi", "eve", TARGET, fingerprint=told, most=1)
    assert len({first, other, device.identity}) == 3


def profiled(device: RemoteDevice, progress: Callable[[Status], None] = lambda _: None) -> Profile:
    asked = ProfileAsked(
        target=TARGET, space=SPACE, shape=SHAPE, seconds=3, seed=0, count_disturbed=True
    )
    return device.profile(asked, path=Path("unused"), progress=progress)


def test_what_is_asked_is_measured_whatever_is_cut_meanwhile(
    service: Service, pi: Pi, port: int, device: RemoteDevice, tmp_path: Path
) -> None:
    told: list[Status] = []
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        server.enter_context(serving(service, port))
        asked = pool.submit(profiled, device, told.append)
        pi.start()
        kept = tmp_path / "state" / "profile.json"
        wait_for(lambda: kept.exists() or asked.done())
        device.await_agent()
        assert device.fingerprint(TARGET) == Fingerprint.of_this_machine(TARGET)

        pi.end(signal.SIGKILL)
        before = Profile.load(kept)
        pi.start()
        wait_for(lambda: len(Profile.load(kept).sessions) > len(before.sessions) or asked.done())
        server.close()
        wait_for((tmp_path / "state" / "result.json").exists)  # measured on while it was away
        assert not asked.done()
        server.enter_context(serving(service, port))

        profile = asked.result()
        assert len(profile.sessions) == 2
        assert profile.measurements[: len(before.measurements)] == before.measurements
        assert told
        assert profiled(replace(device, attempt=2)) == profile  # the target's own by now

        small, large = SPACE.smallest, SPACE.largest
        exported = tmp_path / "model.onnx"
        onnx.save(classifier_model(small, SHAPE), str(exported))
        found = device.time([large, exported], TARGET, SHAPE, rounds=2)
        assert [len(one.samples_ms) > 0 for one in found] == [True, True]
        assert not list((service.settings.data / "tasks").iterdir())  # models are not kept
        again = remote(service).time([large, exported], TARGET, SHAPE, rounds=2)
        assert again == found  # as a job begun anew has it
        wait_for(lambda: not (tmp_path / "state" / "task.json").exists())
        assert pi.end(signal.SIGINT) == 130
    assert "cannot be reached" in pi.log
    assert "answers again" in pi.log


def test_a_device_that_was_never_seen_is_not_waited_for_forever(
    service: Service, device: RemoteDevice
) -> None:
    with pytest.raises(NasError, match=r"device pi was never seen; start its agent: latency agent"):
        remote(service, patience_s=0.1).fingerprint(TARGET)
    with pytest.raises(NasError, match="was never seen"):
        remote(service, patience_s=0.1).await_agent()
    with pytest.raises(NasError, match="then retry the search"):
        profiled(remote(service, patience_s=0.1))
    with service.engine.connect() as connection:
        assert connection.execute(sa.select(tasks)).all() == []  # nobody is at it, nobody wants it


def test_a_profile_serves_who_asks_for_no_more_time_than_it_took(
    service: Service,
    device: RemoteDevice,
    make_profile: MakeProfile,  # noqa: F811
) -> None:
    profile = make_profile()
    register_target(service.engine, service.settings.data, "pi", "ada", profile.target, most=1)
    known = find_target(service.engine, "pi")
    assert known is not None
    store_profile(service.engine, service.settings.data, known, profile)

    def asked(seconds: float) -> Profile:
        request = ProfileAsked(
            target=profile.target,
            space=load_space("minilm"),
            shape=profile.shape,
            seconds=seconds,
            seed=0,
            count_disturbed=True,
        )
        device = remote(service, patience_s=0.1)
        return device.profile(request, path=Path("unused"), progress=lambda _: None)

    assert asked(profile.seconds / 0.9) == profile
    with pytest.raises(NasError, match="was never seen"):  # the device is asked to measure
        asked(2 * profile.seconds)


def test_who_waits_is_told_when_a_search_has_ended(service: Service, device: RemoteDevice) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(device.time, [SPACE.smallest], TARGET, SHAPE, rounds=2)

        def waits() -> bool:
            with service.engine.connect() as connection:
                return connection.execute(sa.select(tasks)).first() is not None

        wait_for(waits)
        forget_tasks(service.engine, service.settings.data, "s1")
        with pytest.raises(NasError, match="the search was ended"):
            asked.result()


def test_a_task_has_an_end_however_alive_its_agent(
    service: Service, device: RemoteDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_device, "_SLACK_S", 0.0)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(device.time, [SPACE.smallest], TARGET, SHAPE, rounds=2)
        wait_for(lambda: claim_task(service.engine, "pi") is not None)
        with pytest.raises(NasError, match="device pi took longer than 0 s"):
            asked.result()


def test_an_agent_says_what_it_cannot_do(
    service: Service, pi: Pi, port: int, device: RemoteDevice
) -> None:
    with serving(service, port):
        pi.start()
        long = replace(TARGET, sequence_length=64)
        with pytest.raises(NasError, match=r"target pi: .*64 exceeds the model's 32 positions"):
            device.time([Architecture.from_dict(SPACE.smallest.to_dict())], long, SHAPE, rounds=2)
