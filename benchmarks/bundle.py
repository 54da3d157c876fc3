"""Whether models in a bundle, whose weights are drawn on the device, take what built ones take.

    python benchmarks/bundle.py

Both forms of a few encoders are timed side by side, so that the machine's moods fall on both, in
several rounds with fresh sessions. Prints a table of ratios and writes `results/bundle.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from result_files import origin, write_result

from latency.bundle import graph_of
from latency.bundle_runner import Bundle, BundledRuntime
from latency.calls import Subject
from latency.runtimes import bound, kernel_shape, onnx_runtime, workload
from latency.target import Target
from latency.timing import Protocol, measure
from supernet.architecture import Architecture, EncoderShape

RESULTS = Path(__file__).parent / "results"
TARGET = Target(threads=1, batch_size=1, sequence_length=64)
ENCODERS = [
    Architecture.uniform(num_layers=1, hidden_size=64, num_heads=2, intermediate_size=128),
    Architecture.uniform(num_layers=4, hidden_size=192, num_heads=6, intermediate_size=768),
    Architecture.uniform(num_layers=6, hidden_size=384, num_heads=12, intermediate_size=1536),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = [timed() for _ in range(parser.parse_args().rounds)]
    rows = []
    print("| encoder | built, p50 ms | bundled / built, median | least | most |")
    print("|---|---|---|---|---|")
    for encoder, of_encoder in zip(ENCODERS, zip(*rounds, strict=True), strict=True):
        built, bundled = np.array(of_encoder).T
        ratios = bundled / built
        row = {"encoder": str(encoder), "built_ms": list(built), "ratios": list(ratios)}
        rows.append(row)
        print(
            f"| {encoder} | {np.median(built):.3g} | {np.median(ratios):.3f} "
            f"| {ratios.min():.3f} | {ratios.max():.3f} |"
        )
    result = origin(TARGET) | {"target": TARGET.to_dict(), "seed": 0, "rows": rows}
    write_result(RESULTS / "bundle.json", result)


def timed() -> list[tuple[float, float]]:
    """Latencies of each encoder in milliseconds: built here, and from a bundle."""
    shape = kernel_shape(EncoderShape(), TARGET)
    subjects = [Subject(encoder, TARGET.workload) for encoder in ENCODERS]
    graphs = {one: graph_of(one, TARGET, shape, 0) for one in subjects}
    bundle = Bundle(
        {"seed": 0},
        {one: graph for one, (graph, _) in graphs.items()},
        {one: stubs for one, (_, stubs) in graphs.items()},
    )
    inputs = workload(TARGET, shape)
    calls = [
        bound(runtime.model(encoder, TARGET, shape=shape), inputs)
        for encoder in ENCODERS
        for runtime in (onnx_runtime, BundledRuntime(bundle))
    ]
    times = [one.steady_ms for one in measure(calls, protocol=Protocol(rounds=40, block_ms=10.0))]
    return list(zip(times[::2], times[1::2], strict=True))


if __name__ == "__main__":
    main()
