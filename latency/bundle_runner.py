"""Runs in a bundle, on a device with only NumPy and ONNX Runtime: measures and writes a profile.

The host has chosen what to measure and in which order (:mod:`latency.bundle`).
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from numpy.typing import NDArray
from onnxruntime import InferenceSession

from latency.affinity import default_threads, pinned
from latency.calls import Subject
from latency.design import Planned
from latency.durations import parse_seconds
from latency.fingerprint import Fingerprint
from latency.kernels import Kernel
from latency.onnx_session import feeds, model_of, start
from latency.profile import Profile
from latency.profile_rows import subject_of
from latency.profiler import GROUP, LEAST_DRAWN, MeasuringSession
from latency.runtimes import Model
from latency.target import Target, Workload
from latency.weightless import RandomWeights, Stub
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError

MANIFEST = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """The content of a bundle.

    Args:
        manifest: its description, which :func:`latency.bundle.write_bundle` writes.
        graphs: the ONNX graphs of all subjects, without weights.
        stubs: descriptions of the graphs' weights.
    """

    manifest: dict[str, Any]
    graphs: dict[Subject, bytes]
    stubs: dict[Subject, dict[str, Stub]]

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """Read the zip application at ``path``."""
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            rows = manifest["subjects"]
            subjects = [subject_of(row) for row in rows]
            return cls(
                manifest,
                {one: archive.read(f"graphs/{n}.onnx") for n, one in enumerate(subjects)},
                {
                    one: {name: Stub(*stub) for name, stub in row["weights"].items()}
                    for one, row in zip(subjects, rows, strict=True)
                },
            )

    def plan(self) -> list[Planned]:
        """The measurements to make, in order."""
        subjects = list(self.graphs)
        return [(subjects[number], role) for number, role in self.manifest["plan"]]

    def profile(self, threads: int | None) -> Profile:
        """An empty profile of this device.

        Args:
            threads: None takes the bundle's number, or else one that suits this device.
        """
        target = Target.from_dict(self.manifest["target"])
        threads = threads or self.manifest["threads"] or default_threads()
        target = replace(target, threads=threads)
        return Profile(
            target=target,
            workloads=tuple(Workload(*pair) for pair in self.manifest["workloads"]),
            fingerprint=Fingerprint.of_this_machine(target),
            spaces=tuple(self.manifest["spaces"]),
            shape=EncoderShape(**self.manifest["shape"]),
            seed=self.manifest["seed"],
        )


class BundledRuntime:
    """ONNX Runtime on graphs of a bundle; see :class:`latency.runtimes.Runtime`."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._weights = RandomWeights(bundle.manifest["seed"])
        # A session reads its weights in place, so they must live as long as the session.
        self._read: WeakKeyDictionary[InferenceSession, Mapping[str, NDArray[Any]]]
        self._read = WeakKeyDictionary()

    def threads(self, target: Target) -> AbstractContextManager[None]:
        return nullcontext()

    def kernel(
        self,
        kernel: Kernel,
        target: Target,
        *,
        shape: EncoderShape = EncoderShape(),
        copies: int = 1,
        seed: int = 0,
    ) -> Callable[[], object]:
        session = self._session(Subject(kernel, target.workload, copies), target)
        return partial(session.run, None, feeds(session, target, shape, seed=seed))

    def model(
        self, architecture: Architecture, target: Target, *, shape: EncoderShape, seed: int = 0
    ) -> Model:
        return model_of(self._session(Subject(architecture, target.workload), target))

    def load(self, path: Path, target: Target) -> Model:
        raise NasError("a bundle loads no models but its own")

    def _session(self, subject: Subject, target: Target) -> InferenceSession:
        """The subject's graph, ready to run."""
        weights = self._weights.fill(self._bundle.stubs[subject])
        session = start(self._bundle.graphs[subject], target, weights)
        self._read[session] = weights
        return session


def measure_plan(
    bundle: Bundle,
    profile: Profile,
    path: Path,
    *,
    time_budget_s: float,
    progress: Callable[[float, int], None],
) -> Profile:
    """Measure the bundle's plan; save the profile at ``path`` after every group.

    Args:
        time_budget_s: once enough models drawn at random are measured, no group begins that would
            end after so many seconds.
        progress: called with the share that is done, and the number of measurements.

    Raises:
        NasError: ``path`` cannot be written.
    """
    plan = bundle.plan()
    least = min(LEAST_DRAWN, _drawn(role for _, role in plan))
    with pinned(profile.target.threads):
        session = MeasuringSession(profile, BundledRuntime(bundle), min(60.0, time_budget_s / 20))
        for begin in range(0, len(plan), GROUP):
            over = begin > 0 and profile.seconds * (1 + GROUP / begin) > time_budget_s
            if over and profile.complete:
                break
            profile = session.measure(profile, plan[begin : begin + GROUP])
            drawn = _drawn(one.role for one in profile.measurements)
            profile = replace(profile, complete=drawn >= least)
            profile.save(path)
            done = max(len(profile.measurements) / len(plan), profile.seconds / time_budget_s)
            progress(min(1.0, done), len(profile.measurements))
    return profile


def _drawn(roles: Iterable[str]) -> int:
    return sum(role == "drawn" for role in roles)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bundle; a fault that the user can mend is one line and exit code 2."""
    try:
        _run(_parser().parse_args(arguments))
    except NasError as error:
        sys.stderr.write(f"bundle: {error}\n")
        sys.exit(2)


def _run(given: argparse.Namespace) -> None:
    seconds = parse_seconds(given.time)
    if given.threads is not None and given.threads < 1:
        raise NasError(f"threads must be at least 1, not {given.threads}")
    if given.output.exists():
        raise NasError(
            f"{given.output} is there already; give another path (a bundle begins anew each time)"
        )
    bundle = Bundle.read(Path(__file__).parents[1])
    profile = bundle.profile(given.threads)
    _say(f"{profile.target}\n{profile.fingerprint}\n")
    ahead = profile.fingerprint.warnings(profile.target)
    for warning in ahead:
        _say(f"warning: {warning}\n")
    try:
        profile = measure_plan(
            bundle, profile, given.output, time_budget_s=seconds,
            progress=lambda share, count: _say(f"\r{share:4.0%}  {count} measured "),
        )  # fmt: skip
    except KeyboardInterrupt:
        _say(f"\nbundle: interrupted; {given.output} holds what was measured so far, if anything\n")
        sys.exit(130)
    _say("\n")
    for warning in profile.warnings():
        if warning not in ahead:
            _say(f"warning: {warning}\n")
    sys.stdout.write(f"{given.output}: look at it with: latency show {given.output}\n")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bundle.pyz",
        description="Measure this device, so that the latency of BERT-like models on it can be "
        "predicted. Keep it quiet meanwhile. Take the profile to a host with TailorBERT: "
        "'latency show profile.json'.",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("profile.json"),
                        help="the profile, a JSON file (default: %(default)s)")  # fmt: skip
    parser.add_argument("--time", default="3m", help="to measure for, such as 90s or 3m (default: "
                        "%(default)s); a slow device takes longer for the least")  # fmt: skip
    parser.add_argument("--threads", type=int, help="worker threads (default: as bundled, or "
                        "all usable cores up to 4)")  # fmt: skip
    return parser
