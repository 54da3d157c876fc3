"""How well latencies of unseen architectures are predicted, beside baselines and the floor.

    python benchmarks/latency_accuracy.py --space minilm-heterogeneous --threads 2

Profiles the device, then measures held-out architectures twice (half of them with equal layers,
half layer by layer), each built anew for the second time. The baselines learn from whole models
measured for as long as the profile took: a straight line in FLOPs, and gradient-boosted trees on
whole-model features. Prints a table and writes `latency_accuracy.json` and `.png`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

import matplotlib.pyplot as plt
import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import GradientBoostingRegressor

from latency.accuracy import Accuracy, accuracy
from latency.fingerprint import Fingerprint
from latency.predictor import LatencyPredictor
from latency.profiler import REFERENCE, profile_device
from latency.runtimes import bound, runtime_of, workload
from latency.target import RUNTIMES, Latency, Target
from latency.timing import Protocol, record, usual_reference_ms
from supernet.architecture import Architecture, EncoderShape
from supernet.space import SearchSpace

FloatArray = NDArray[np.float64]
SPACES = Path(__file__).parent.parent / "configs" / "spaces"
SHAPE = EncoderShape()
GROUP = 8


def main() -> None:
    arguments = parse()
    target = Target(
        runtime=arguments.runtime,
        threads=arguments.threads,
        batch_size=arguments.batch,
        sequence_length=arguments.sequence,
    )
    space = SearchSpace.from_dict(
        yaml.safe_load((SPACES / f"{arguments.space}.yaml").read_text(encoding="utf-8"))
    )
    rng = np.random.default_rng([arguments.seed, 1])  # other than what the profile draws
    held_out = draw(space, arguments.models, rng)

    start = monotonic()
    profile = profile_device(
        target, space, time_budget_s=arguments.time, seed=arguments.seed, shape=SHAPE
    )
    profile_s = monotonic() - start
    predictor = LatencyPredictor(profile).fit()
    training, training_ms = measure_for(profile_s, target, space, rng)
    first, second = (measure_all(held_out, target) for _ in range(2))

    low_ms = np.array([[latency.low_ms for latency in one] for one in (first, second)])
    p50_ms = np.array([[latency.p50_ms for latency in one] for one in (first, second)])
    measured_ms = low_ms.mean(axis=0)
    predictions = {
        "kernels and calibration": predictor.predict_low(held_out),
        "straight line in FLOPs": flops_line(training, training_ms, target)(held_out),
        "boosted trees on whole models": boosted_trees(training, training_ms, target)(held_out),
    }
    rows = {name: accuracy(ms, measured_ms) for name, ms in predictions.items()}
    rows["kernels and calibration, p50"] = accuracy(predictor.predict(held_out), p50_ms.mean(0))
    rows["floor: measured twice"] = accuracy(low_ms[1], low_ms[0])
    rows["floor: measured twice, p50"] = accuracy(p50_ms[1], p50_ms[0])
    show(rows, target, space, profile_s, len(training))

    arguments.output.mkdir(parents=True, exist_ok=True)
    result = {
        "target": target.to_dict(),
        "space": space.to_dict(),
        "fingerprint": Fingerprint.of_this_machine().to_dict(),
        "seed": arguments.seed,
        "profile_s": profile_s,
        "accuracy": {name: card.to_dict() for name, card in rows.items()},
        "profile_errors": predictor.errors().to_dict(),
        "training": [
            {"architecture": a.to_dict(), "low_ms": ms}
            for a, ms in zip(training, training_ms.tolist(), strict=True)
        ],
        "held_out": [
            {
                "architecture": architecture.to_dict(),
                "predicted_ms": {name: float(ms[row]) for name, ms in predictions.items()},
                "low_ms": low_ms[:, row].tolist(),
                "samples_ms": [first[row].samples_ms, second[row].samples_ms],
            }
            for row, architecture in enumerate(held_out)
        ],
    }
    (arguments.output / "latency_accuracy.json").write_text(json.dumps(result))
    plot(predictions, measured_ms, target, arguments.output / "latency_accuracy.png")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnxruntime")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--sequence", type=int, default=64)
    parser.add_argument("--space", default="minilm-heterogeneous", help="a name in configs/spaces")
    parser.add_argument("--models", type=int, default=64, help="held-out architectures")
    parser.add_argument("--time", type=float, default=90.0, help="seconds for the profile")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    return parser.parse_args()


def draw(space: SearchSpace, count: int, rng: np.random.Generator) -> list[Architecture]:
    """Alternately with equal layers and layer by layer, whichever of the two the space has."""
    kinds = [replace(space, uniform=uniform) for uniform in (True, False)]
    return [kinds[index % 2].sample(rng) for index in range(count)]


def measure_all(architectures: Sequence[Architecture], target: Target) -> list[Latency]:
    """Build and measure, a few side by side; drift divided out over all of them."""
    runtime = runtime_of(target)
    reference = runtime.kernel(REFERENCE, target, shape=SHAPE)
    inputs = workload(target, SHAPE)
    records = []
    with runtime.threads(target):
        for start in range(0, len(architectures), GROUP):
            calls = [
                bound(runtime.model(architecture, target, shape=SHAPE), inputs)
                for architecture in architectures[start : start + GROUP]
            ]
            records += record(calls, reference=reference, protocol=Protocol())
    usual_ms = usual_reference_ms(records)
    return [one.latency(usual_ms) for one in records]


def measure_for(
    seconds: float, target: Target, space: SearchSpace, rng: np.random.Generator
) -> tuple[list[Architecture], FloatArray]:
    """As many whole models as the time allows, and their latencies."""
    start = monotonic()
    architectures: list[Architecture] = []
    latencies: list[Latency] = []
    while monotonic() - start < seconds:
        group = draw(space, GROUP, rng)
        latencies += measure_all(group, target)
        architectures += group
    return architectures, np.array([latency.low_ms for latency in latencies])


Baseline = Callable[[Sequence[Architecture]], FloatArray]


def executed_flops(architecture: Architecture, target: Target) -> int:
    """Of the layers that are computed for all tokens; what the runtime skips is not counted."""
    layers = architecture.layers
    if runtime_of(target).FIRST_TOKEN_LAST_LAYER:
        layers = layers[:-1]
    if not layers:
        return 0
    computed = Architecture(architecture.hidden_size, layers)
    return computed.flops(target.sequence_length, target.batch_size)


def flops_line(
    architectures: Sequence[Architecture], times_ms: FloatArray, target: Target
) -> Baseline:
    """Milliseconds = a + b FLOPs, by least squares of the relative error."""

    def terms(of: Sequence[Architecture]) -> FloatArray:
        flops = [executed_flops(a, target) for a in of]
        return np.stack([np.ones(len(flops)), np.array(flops) / 1e6], axis=1)

    weighted = terms(architectures) / times_ms[:, None]
    line = np.linalg.lstsq(weighted, np.ones(len(times_ms)), rcond=None)[0]
    return lambda of: terms(of) @ line


def boosted_trees(
    architectures: Sequence[Architecture], times_ms: FloatArray, target: Target
) -> Baseline:
    """Trees on the logarithms of depth, widths, FLOPs and parameters."""

    def features(of: Sequence[Architecture]) -> FloatArray:
        rows = [
            [
                a.num_layers,
                a.hidden_size,
                *(
                    np.mean([getattr(layer, name) for layer in a.layers])
                    for name in ("num_heads", "qkv_size", "intermediate_size")
                ),
                1 + executed_flops(a, target),
                a.parameters(SHAPE),
            ]
            for a in of
        ]
        return np.log(np.array(rows, dtype=np.float64))

    trees = GradientBoostingRegressor(n_estimators=300, learning_rate=0.05, random_state=0)
    trees.fit(features(architectures), np.log(times_ms))
    return lambda of: np.exp(trees.predict(features(of)))


def show(
    rows: dict[str, Accuracy], target: Target, space: SearchSpace, profile_s: float, models: int
) -> None:
    table = Table(
        *("", "MAPE", "within 5%", "within 10%", "bias", "Kendall tau"),
        title=f"{space.name} on {target}",
        caption=f"profile {profile_s:.0f} s; baselines learn from {models} models in that time",
    )
    for name, card in rows.items():
        table.add_row(
            name,
            f"{card.mape_percent:.1f}%",
            f"{card.within_5_percent:.0%}",
            f"{card.within_10_percent:.0%}",
            f"{card.bias_percent:+.1f}%",
            f"{card.kendall_tau:.3f}",
        )
    Console().print(table)


def plot(
    predictions: dict[str, FloatArray], measured_ms: FloatArray, target: Target, path: Path
) -> None:
    figure, axes = plt.subplots(figsize=(6, 6))
    ends = np.array([measured_ms.min() * 0.8, measured_ms.max() * 1.25])
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.fill_between(ends, ends * 0.9, ends * 1.1, color="black", alpha=0.08, label="within 10%")
    for (name, predicted_ms), marker in zip(predictions.items(), "o^x", strict=True):
        axes.plot(predicted_ms, measured_ms, marker, markersize=4, label=name)
    axes.set(xscale="log", yscale="log", xlabel="predicted (ms)", ylabel="measured (ms)")
    axes.set_title(str(target), fontsize=10)
    axes.legend()
    figure.savefig(path, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
