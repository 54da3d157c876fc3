"""How well latencies of unseen architectures are predicted, beside baselines and the floor.

    python benchmarks/latency_accuracy.py --runtime onnxruntime --threads 1

Profiles the device for three minutes. Then times held-out architectures twice, each built anew for
the second time: half from `minilm`, half from `autotinybert-kd`, half of either with equal layers,
half layer by layer. Between those it times, for as long as the profile took, whole models for
baselines to learn from: AutoTinyBERT's MLP on four features, a straight line in FLOPs, and
gradient-boosted trees. Then come some of the profile's own models, to tell what the machine itself
has changed by since, and published architectures. A file keeps two times and all predictions of
each held-out architecture; `--analyse FILE...` prints tables and draws plots from such files alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import yaml
from latency_baselines import autotinybert_mlp, boosted_trees, flops_line
from numpy.typing import NDArray
from result_files import origin, save_figure, write_result
from rich.console import Console
from rich.progress import track
from rich.table import Table

from latency.accuracy import Accuracy, accuracy
from latency.affinity import pinned
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.profiler import profile_device, reference_calls
from latency.runtimes import bound, kernel_shape, runtime_of, workload
from latency.target import DTYPES, RUNTIMES, Target
from latency.timing import Protocol, Record, Usual, record, usual_reference
from supernet.architecture import Architecture, EncoderShape
from supernet.space import SearchSpace

FloatArray = NDArray[np.float64]
OURS = "TailorBERT"
SPACES = Path(__file__).parent.parent / "configs" / "spaces"
SHAPE = EncoderShape()
GROUP = 8
PROTOCOL = Protocol(rounds=10, extra_rounds=5)
CONFIDENCE = 0.95
LATER = 48
"""Models of the profile that are timed once more, at the most."""


def main() -> None:
    arguments = parse()
    if arguments.analyse:
        results = [json.loads(path.read_text()) for path in arguments.analyse]
    else:
        results = [measured(arguments)]
        results[0]["analysis"] = analyse(results[0])
        write_result(arguments.output / f"{file_name(results[0])}.json", results[0])
    for result in results:
        show(result)
        plot(result, arguments.output / f"{file_name(result)}.png")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnxruntime")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--sequence", type=int, default=64)
    parser.add_argument(
        "--compression", type=int, nargs="+", default=[1], help="of layers, as spaces have it"
    )
    parser.add_argument("--models", type=int, default=120, help="held-out architectures")
    parser.add_argument("--time", type=float, default=180.0, help="seconds for the profile")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--analyse", type=Path, nargs="*", help="result files; nothing is timed")
    return parser.parse_args()


def file_name(about: Mapping[str, Any]) -> str:
    """Of a result, by its target and the compression of its layers."""
    target = Target.from_dict(about["target"])
    runs = f"{target.device}-{target.runtime}-{target.dtype}-{target.threads}t"
    layers = "" if about["compression"] == [1] else "-compressed"
    return f"latency_accuracy-{runs}-b{target.batch_size}-s{target.sequence_length}{layers}"


# ---- measuring --------------------------------------------------------------------------------


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that is timed, kept as it goes; the profile goes on where it was stopped."""
    target = Target(
        device=arguments.device,
        runtime=arguments.runtime,
        dtype=arguments.dtype,
        threads=arguments.threads,
        batch_size=arguments.batch,
        sequence_length=arguments.sequence,
    )
    spaces = covered_spaces(arguments.compression)
    rng = np.random.default_rng([arguments.seed, 1])  # other than what the profile draws
    held_out = drawn(spaces, arguments.models, rng)
    training = endless(spaces, rng)
    arguments.output.mkdir(parents=True, exist_ok=True)
    name = file_name({"target": target.to_dict(), "compression": arguments.compression})
    path = arguments.output / f".{name}-seed{arguments.seed}.profile.json"
    console = Console()
    with console.status("profile") as status:
        profile = profile_device(
            target, spaces, time_budget_s=arguments.time, seed=arguments.seed, shape=SHAPE,
            path=path,
            progress=lambda s: status.update(f"profile: {s.measured} kernels and models timed"),
        )  # fmt: skip
    timer = Timer(target)
    with timer.runtime.threads(target), pinned(target.threads):
        first, learnt, learnt_ms = timer.interleaved(held_out, training, profile.seconds)
        second = timer.all(held_out, "held-out models, built anew")
        known = drawn_in(profile)
        later = timer.all([one for one, _ in known], "models of the profile, once more")
        published = timer.all([one for _, one, _ in published_architectures()], "published")
    path.unlink()
    usual = usual_reference([*first, *second, *published])
    pace = profile.pace_ms / usual.pace_ms

    def steady_ms(records: Sequence[Record]) -> list[float]:
        return [pace * one.latency(usual).steady_ms for one in records]

    predictor = LatencyPredictor(profile).fit()
    predictions = predicted(predictor, learnt, np.array(steady_ms(learnt_ms)), target, held_out)
    return origin(target) | {
        "target": target.to_dict(),
        "seed": arguments.seed,
        "compression": arguments.compression,
        "profile": told_of(predictor),
        "training_models": len(learnt),
        "held_out": rows(held_out, (first, second), usual, pace, predictions),
        "later": [
            {"architecture": str(one), "profile_ms": then, "steady_ms": now}
            for (one, then), now in zip(known, steady_ms(later), strict=True)
        ],
        "published": published_rows(steady_ms(published), predictor),
        "speed": speed(predictor),
    }


def told_of(predictor: LatencyPredictor) -> dict[str, Any]:
    """What a profile took, and what it says of its own errors."""
    profile = predictor.profile
    return {
        "began": [session.began for session in profile.sessions],
        "seconds": profile.seconds,
        "measurements": len(profile.measurements),
        "margin": predictor.margin(CONFIDENCE),
        "own_errors": asdict(predictor.errors()),
    }


def predicted(
    predictor: LatencyPredictor,
    learnt: Sequence[Architecture],
    learnt_ms: FloatArray,
    target: Target,
    held_out: Sequence[Architecture],
) -> dict[str, FloatArray]:
    """Milliseconds of the held-out architectures by each predictor, (N,).

    Args:
        learnt, learnt_ms: what the baselines learn from.
    """
    return {
        OURS: predictor.predict(held_out),
        "AutoTinyBERT's MLP": autotinybert_mlp(learnt, learnt_ms, target)(held_out),
        "straight line in FLOPs": flops_line(learnt, learnt_ms, target)(held_out),
        "boosted trees": boosted_trees(learnt, learnt_ms, target)(held_out),
    }


def drawn_in(profile: Profile) -> list[tuple[Architecture, float]]:
    """Models that the profile drew at random, with its milliseconds of them."""
    found: dict[Architecture, float] = {}
    measured = zip(profile.measurements, profile.latencies, profile.steady, strict=True)
    for one, latency, is_steady in measured:
        if one.role == "drawn" and is_steady and isinstance(one.subject.what, Architecture):
            found.setdefault(one.subject.what, latency.steady_ms)
    return list(found.items())[:LATER]


def rows(
    architectures: Sequence[Architecture],
    passes: Sequence[Sequence[Record]],
    usual: Usual,
    pace: float,
    predictions: Mapping[str, FloatArray],
) -> list[dict[str, Any]]:
    """Of each architecture, both times: the median at the profile's pace, and as clocked."""
    found = []
    for number, architecture in enumerate(architectures):
        records = [one[number] for one in passes]
        latencies = [one.latency(usual) for one in records]
        found.append(
            {
                "architecture": str(architecture),
                "steady_ms": [pace * one.steady_ms for one in latencies],
                "p50_ms": [one.p50_ms for one in latencies],
                "is_steady": [one.is_steady(usual) for one in records],
                "predicted_ms": {name: ms[number] for name, ms in predictions.items()},
            }
        )
    return found


class Timer:
    """Builds and times whole models, a few side by side."""

    def __init__(self, target: Target) -> None:
        self.runtime = runtime_of(target)
        self._target = target
        self._shape = kernel_shape(SHAPE, target)
        self._reference = reference_calls(self.runtime, target, SHAPE)
        self._inputs = workload(target, self._shape)

    def group(self, architectures: Sequence[Architecture]) -> list[Record]:
        calls = [
            bound(self.runtime.model(one, self._target, shape=self._shape), self._inputs)
            for one in architectures
        ]
        return record(calls, reference=self._reference, protocol=PROTOCOL)

    def all(self, architectures: Sequence[Architecture], what: str) -> list[Record]:
        starts = range(0, len(architectures), GROUP)
        return [
            one
            for start in track(starts, what)
            for one in self.group(architectures[start : start + GROUP])
        ]

    def interleaved(
        self,
        held_out: Sequence[Architecture],
        training: Iterator[Architecture],
        seconds: float,
    ) -> tuple[list[Record], list[Architecture], list[Record]]:
        """Held-out models, and between their groups others, until these have had their seconds."""
        first: list[Record] = []
        learnt: list[Architecture] = []
        learnt_ms: list[Record] = []
        spent = 0.0
        starts = range(0, len(held_out), GROUP)
        for done, start in enumerate(track(starts, "held-out models, and the baselines' own"), 1):
            first += self.group(held_out[start : start + GROUP])
            while spent < seconds * done / len(starts):
                began = perf_counter()
                group = [next(training) for _ in range(GROUP)]
                learnt_ms += self.group(group)
                learnt += group
                spent += perf_counter() - began
        return first, learnt, learnt_ms


def covered_spaces(compression: Sequence[int] = (1,)) -> list[SearchSpace]:
    """`minilm` and `autotinybert-kd`, with equal layers and layer by layer."""
    loaded = [
        SearchSpace.from_dict(yaml.safe_load((SPACES / f"{name}.yaml").read_text()))
        for name in ("minilm", "autotinybert-kd")
    ]
    return [
        replace(space, uniform=uniform, compression=tuple(compression))
        for space in loaded
        for uniform in (True, False)
    ]


def drawn(
    spaces: Sequence[SearchSpace], count: int, rng: np.random.Generator
) -> list[Architecture]:
    return [spaces[number % len(spaces)].sample(rng) for number in range(count)]


def endless(spaces: Sequence[SearchSpace], rng: np.random.Generator) -> Iterator[Architecture]:
    while True:
        yield from drawn(spaces, len(spaces), rng)


def published_architectures() -> list[tuple[str, Architecture, float | None]]:
    """Name, architecture, claimed speed-up over BERT-base on a CPU; nothing without the file."""
    folder = os.environ.get("NAS_DATA")
    path = Path(folder).parent / "published_architectures.json" if folder else None
    if path is None or not path.exists():
        return []
    return [
        (
            entry["name"],
            Architecture.uniform(
                num_layers=entry["layers"],
                hidden_size=entry["hidden"],
                num_heads=entry["heads"],
                qkv_size=entry["qkv"],
                intermediate_size=entry["intermediate"],
            ),
            entry.get("speedup_cpu"),
        )
        for entry in json.loads(path.read_text())["architectures"]
    ]


# ---- analysis ---------------------------------------------------------------------------------


def predictions_of(result: dict[str, Any]) -> dict[str, FloatArray]:
    """Predicted milliseconds of the held-out architectures, (N,), by predictor."""
    names = result["held_out"][0]["predicted_ms"]
    return {
        name: np.array([row["predicted_ms"][name] for row in result["held_out"]]) for name in names
    }


def analyse(result: dict[str, Any]) -> dict[str, Any]:
    """Accuracy of all predictors, by kind of architecture, and coverage of the bound."""
    passes = np.array([row["steady_ms"] for row in result["held_out"]])  # (N, 2)
    clocked = np.array([row["p50_ms"] for row in result["held_out"]])
    predictions = predictions_of(result)
    ours = predictions[OURS]
    mean_ms = np.sqrt(passes[:, 0] * passes[:, 1])
    cards = {name: accuracy(ms, mean_ms) for name, ms in predictions.items()}
    each = np.concatenate([passes[:, 0], passes[:, 1]])
    cards[f"{OURS}, against one timing"] = accuracy(np.tile(ours, 2), each)
    cards[f"{OURS}, against the clock"] = accuracy(ours, np.sqrt(clocked[:, 0] * clocked[:, 1]))
    cards["floor: timed twice"] = accuracy(passes[:, 1], passes[:, 0])
    if result["later"]:
        then = np.array([row["profile_ms"] for row in result["later"]])
        now = np.array([row["steady_ms"] for row in result["later"]])
        cards["floor: in the profile, and later"] = accuracy(then, now)
    cards["floor: timed twice, clock"] = accuracy(clocked[:, 1], clocked[:, 0])
    by_kind = {
        kind: accuracy(ours[rows], mean_ms[rows]).to_dict()
        for kind, rows in {
            "minilm, equal layers": slice(0, None, 4),
            "minilm, layer by layer": slice(1, None, 4),
            "autotinybert-kd, equal layers": slice(2, None, 4),
            "autotinybert-kd, layer by layer": slice(3, None, 4),
        }.items()
    }
    upper = ours * (1 + result["profile"]["margin"])
    return {
        "accuracy": {name: card.to_dict() for name, card in cards.items()},
        "by_kind": by_kind,
        "coverage": float((each <= np.tile(upper, 2)).mean()),
    }


def published_rows(timed: Sequence[float], predictor: LatencyPredictor) -> list[dict[str, Any]]:
    """Predicted and measured milliseconds, and speed-ups over BERT-base beside the claims."""
    named = published_architectures()
    if not named:
        return []
    predicted = predictor.predict([one for _, one, _ in named])
    return [
        {
            "name": name,
            "predicted_ms": float(predicted[row]),
            "measured_ms": timed[row],
            "predicted_speedup": float(predicted[0] / predicted[row]),
            "measured_speedup": timed[0] / timed[row],
            "claimed_speedup": claimed,
        }
        for row, (name, _, claimed) in enumerate(named)
    ]


def speed(predictor: LatencyPredictor) -> dict[str, float]:
    """Architectures a second through `predict`, on one core, over all of `autotinybert-kd`."""
    space = covered_spaces()[2]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rates = []
    for _ in range(4):  # the first time its tables are filled
        count, spent = 0, 0.0
        for block in space.enumerate():
            began = perf_counter()
            predictor.predict(block)
            spent += perf_counter() - began
            count += len(block)
        rates.append(count / spent / 1e6)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "architectures": count,
        "first_time_millions_a_second": rates[0],
        "then_millions_a_second": max(rates[1:]),
        "memory_grew_mib": (after - before) / 1024,
    }


def show(result: dict[str, Any]) -> None:
    target, profile, analysis = (
        Target.from_dict(result["target"]),
        result["profile"],
        result["analysis"],
    )
    table = Table(
        *("", "MAPE", "within 5%", "within 10%", "bias", "Kendall tau"),
        title=f"{len(result['held_out'])} held-out architectures on {target}",
        caption=f"profile {profile['seconds']:.0f} s, {profile['measurements']} timings; "
        f"baselines learn from {result['training_models']} models in that time; "
        f"{analysis['coverage']:.1%} within the {CONFIDENCE:.0%} bound ({profile['margin']:+.1%})",
    )
    for name, data in (analysis["accuracy"] | analysis["by_kind"]).items():
        card = Accuracy(**data)
        table.add_row(
            name,
            f"{card.mape_percent:.2f}%",
            f"{card.within_5_percent:.1%}",
            f"{card.within_10_percent:.1%}",
            f"{card.bias_percent:+.2f}%",
            f"{card.kendall_tau:.4f}",
        )
    console = Console()
    console.print(table)
    console.print(result["speed"])
    if result["published"]:
        table = Table(
            "", "predicted ms", "measured ms", "speed-up predicted", "measured", "claimed"
        )
        for row in result["published"]:
            table.add_row(
                row["name"],
                f"{row['predicted_ms']:.2f}",
                f"{row['measured_ms']:.2f}",
                f"{row['predicted_speedup']:.1f}x",
                f"{row['measured_speedup']:.1f}x",
                f"{row['claimed_speedup']}x" if row["claimed_speedup"] else "",
            )
        console.print(table)


def plot(result: dict[str, Any], path: Path) -> None:
    measured_ms = np.array([row["steady_ms"] for row in result["held_out"]])
    mean_ms = np.sqrt(measured_ms[:, 0] * measured_ms[:, 1])
    predictions = predictions_of(result)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 6), layout="constrained")
    ends = np.array([mean_ms.min() * 0.8, mean_ms.max() * 1.25])
    left.plot(ends, ends, color="black", linewidth=0.8)
    left.fill_between(ends, ends * 0.9, ends * 1.1, color="black", alpha=0.1, label="within 10%")
    shares = {"floor: timed twice": np.abs(measured_ms[:, 1] / measured_ms[:, 0] - 1)}
    markers = dict(zip(predictions, "ox^s", strict=False))
    for name, predicted in reversed(list(predictions.items())):
        left.plot(predicted, mean_ms, markers[name], markersize=4, alpha=0.8, label=name)
        shares[name] = np.abs(predicted / mean_ms - 1)
    left.set(xscale="log", yscale="log", xlabel="predicted (ms)", ylabel="measured (ms)")
    left.legend()
    for name, errors in shares.items():
        style = {"color": "black", "linestyle": "--"} if name.startswith("floor") else {}
        right.plot(
            100 * np.sort(errors), np.arange(1, len(errors) + 1) / len(errors), label=name, **style
        )
    right.set(xlim=(0, 30), ylim=(0, 1), xlabel="error (%)", ylabel="share of architectures")
    right.grid(alpha=0.3)
    right.legend(loc="lower right")
    figure.suptitle(str(Target.from_dict(result["target"])))
    save_figure(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
