"""A device behind a network of its own, whose link is cut while it is profiled.

    sudo python -m tests.stress.agent_namespace

Two network namespaces joined by a virtual cable stand for a server and a device. The service runs
in the one and `latency agent` in the other; a job beside the service asks for a profile and then
for two models side by side. In mid-profile the cable is pulled for longer than the task's lease,
or as long as `--cut` says, and put back. Needs root and iproute2. Prints what happened when, and
writes `results/agent_namespace.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from latency.asked import ProfileAsked
from latency.fingerprint import Fingerprint
from latency.onnx_graph import classifier_model
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.profiler import Status
from latency.target import Latency, Target
from nas.service.access.tokens import create_token
from nas.service.api.app import create_app
from nas.service.database.engine import open_database
from nas.service.database.revisions import migrate
from nas.service.devices.remote_device import RemoteDevice
from nas.service.devices.tasks import LEASE_S
from nas.service.service import NobodysQueue, Service
from nas.service.settings import ServiceSettings
from supernet.architecture import EncoderShape
from supernet.configs import load_space

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TARGET = Target(threads=1, batch_size=1, sequence_length=64)
SPACE = load_space("minilm-native")
SERVER, DEVICE = f"tailor-server-{os.getpid()}", f"tailor-device-{os.getpid()}"
PORT = 8765


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=150.0, help="to profile for")
    parser.add_argument("--cut", type=float, default=LEASE_S + 5, help="seconds without a cable")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # what the namespace runs
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), arguments.seconds, arguments.cut)
    show(result)
    (RESULTS / "agent_namespace.json").write_text(json.dumps(result, indent=1) + "\n")
    if not all(result["checks"].values()):
        sys.exit(1)


@dataclass
class Log:
    """What happened when, in seconds since the beginning."""

    began: float = field(default_factory=time.monotonic)
    lines: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, event: str) -> float:
        at = round(time.monotonic() - self.began, 1)
        self.lines.append({"s": at, "event": event})
        print(f"{at:7.1f} s  {event}", flush=True)
        return at


def run(folder: Path, seconds: float, cut_s: float) -> dict[str, Any]:
    settings = ServiceSettings(host="10.203.0.1", port=PORT, data=folder / "data")
    service = opened(settings)
    _, token = create_token(service.engine, "ada", ["device"])
    (folder / "token").write_text(token)
    (folder / "target.yaml").write_text(json.dumps(TARGET.to_dict()))
    log, shares = Log(), [0.0]

    def told(status: Status) -> None:
        shares.append(status.share)

    with ExitStack() as stack:
        stack.enter_context(cable())
        stack.enter_context(
            process(
                SERVER,
                [sys.executable, "-m", "tests.stress.agent_namespace", "--serve", str(folder)],
            )
        )
        agent = stack.enter_context(
            process(
                DEVICE,
                [
                    *[sys.executable, "-c", "from latency.cli import main; main()", "agent"],
                    *["--server", f"http://10.203.0.1:{PORT}", "--name", "pi"],
                    *["--token-file", str(folder / "token"), "--state", str(folder / "state")],
                    *["--target", str(folder / "target.yaml")],
                ],
                folder / "agent.log",
            )
        )
        device = RemoteDevice(service.engine, settings.data, "pi", "bench", 1, 600.0)
        wait_for(lambda: known(device))
        fingerprint = device.fingerprint(TARGET)
        log(f"the agent has announced {fingerprint}")
        found: list[Profile] = []

        def ask() -> None:
            found.append(profile(device, seconds, told))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: shares[-1] > 0.2)
        log(f"{shares[-1]:.0%} of the profile is done: the cable is pulled")
        ip("-n", SERVER, "link", "set", "cable", "down")
        before, measured_before = shares[-1], measured(folder)
        time.sleep(cut_s)
        measured_after = measured(folder)
        heard_while_cut = shares[-1] > before
        log(f"meanwhile {measured_after - measured_before} more were measured: it is put back")
        ip("-n", SERVER, "link", "set", "cable", "up")
        back = time.monotonic()
        wait_for(lambda: shares[-1] > before or found)
        log("the service hears of the task again")
        heard_after_s = time.monotonic() - back
        asking.join()
        log(f"the profile has arrived: {len(found[0].measurements)} measurements")
        models = timed(device, folder)
        log("two models are timed beside each other")
        alive = agent.poll() is None
    errors = LatencyPredictor(found[0]).fit().errors()
    checks = {
        "measuring went on while the cable was pulled": measured_after > measured_before,
        "nothing was heard meanwhile": not heard_while_cut,
        "the profile was measured in one session": len(found[0].sessions) == 1,
        "it was heard again within the longest pause and a group": heard_after_s < 60,
        "the agent was never started again": alive,
    }
    return {
        "script": "tests/stress/agent_namespace.py",
        "machine": fingerprint.to_dict(),
        "target": TARGET.to_dict(),
        "space": SPACE.name,
        "profile_seconds": seconds,
        "cut_seconds": cut_s,
        "lease_seconds": LEASE_S,
        "heard_again_after_s": round(heard_after_s, 1),
        "measured_while_cut": measured_after - measured_before,
        "mape_percent": round(errors.mape_percent, 2),
        "floor_mape_percent": round(errors.floor_mape_percent, 2),
        "p50_ms": {"as an architecture": models[0].p50_ms, "as a file": models[1].p50_ms},
        "events": log.lines,
        "agent": [strip(line, folder) for line in (folder / "agent.log").read_text().splitlines()],
        "checks": checks,
    }


def opened(settings: ServiceSettings) -> Service:
    engine = open_database(settings.database_url)
    migrate(engine)
    return Service(settings, engine, NobodysQueue())


def serve(folder: Path) -> None:
    settings = ServiceSettings(host="10.203.0.1", port=PORT, data=folder / "data")
    uvicorn.run(create_app(opened(settings)), host=settings.host, port=PORT, log_level="error")


def profile(device: RemoteDevice, seconds: float, told: Callable[[Status], None]) -> Profile:
    asked = ProfileAsked(
        target=TARGET,
        space=SPACE,
        shape=EncoderShape(),
        seconds=seconds,
        seed=0,
        count_disturbed=True,
    )
    return device.profile(asked, path=Path("unused"), progress=told)


def timed(device: RemoteDevice, folder: Path) -> list[Latency]:
    """The space's smallest model twice: built by the agent, and fetched as a file."""
    path = folder / "model.onnx"
    path.write_bytes(classifier_model(SPACE.smallest, EncoderShape()).SerializeToString())
    return device.time([SPACE.smallest, path], TARGET, EncoderShape(), rounds=40)


def known(device: RemoteDevice) -> Fingerprint | None:
    from nas.service.devices.targets import find_target

    found = find_target(device.engine, device.name)
    return None if found is None else found.fingerprint


def measured(folder: Path) -> int:
    """Kernels and models that the agent has measured so far."""
    path = folder / "state" / "profile.json"
    return len(Profile.load(path).measurements) if path.exists() else 0


@contextmanager
def cable() -> Iterator[None]:
    """Two namespaces that see each other, and nothing else, at 10.203.0.1 and 10.203.0.2."""
    with ExitStack() as stack:
        for name in (SERVER, DEVICE):
            ip("netns", "add", name)
            stack.callback(ip, "netns", "delete", name)
        ip("link", "add", "cable", "netns", SERVER, "type", "veth", "peer", "name", "cable",
           "netns", DEVICE)  # fmt: skip
        for number, name in enumerate((SERVER, DEVICE), start=1):
            ip("-n", name, "address", "add", f"10.203.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield


@contextmanager
def process(
    namespace: str, command: list[str], log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with (log or Path(os.devnull)).open("wb") as out:
        started = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command], stdout=out, stderr=out
        )
        try:
            yield started
        finally:
            started.kill()
            started.wait()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def wait_for(happened: Callable[[], object], patience_s: float = 600.0) -> None:
    until = time.monotonic() + patience_s
    while not happened():
        if time.monotonic() > until:
            raise SystemExit("waited in vain")
        time.sleep(0.1)


def strip(line: str, folder: Path) -> str:
    return line.replace(str(folder), "")


def show(result: dict[str, Any]) -> None:
    print(*(f"{'yes' if ok else 'NO '} {name}" for name, ok in result["checks"].items()), sep="\n")


if __name__ == "__main__":
    main()
