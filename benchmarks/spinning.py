"""What ONNX Runtime's spinning workers do to a model timed beside others, and what stopping costs.

    python benchmarks/spinning.py

Encoders of three sizes are timed alone and side by side, in sessions that leave their workers
spinning after a call (ONNX Runtime's default), stop them with the call, or never spin. Each round
is a process of its own, because where a process's threads land sets its pace for good. Prints a
table and writes `results/spinning.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from result_files import origin, write_result

from latency.kernels import OUTPUT
from latency.onnx_graph import classifier_model
from latency.runtimes import workload
from latency.target import Target
from latency.timing import Call, Protocol, measure
from supernet.architecture import Architecture, EncoderShape

RESULTS = Path(__file__).parent / "results"
SHAPE = EncoderShape()
PROTOCOL = Protocol(rounds=40, block_ms=10.0)
SETTINGS = {
    "spin on (default)": {},
    "stop with the call": {"session.force_spinning_stop": "1"},
    "never spin": {"session.intra_op.allow_spinning": "0"},
}
ENCODERS = [
    Architecture.uniform(num_layers=6, hidden_size=384, num_heads=12, intermediate_size=1536),
    Architecture.uniform(num_layers=3, hidden_size=192, num_heads=6, intermediate_size=576),
    Architecture.uniform(num_layers=1, hidden_size=64, num_heads=2, intermediate_size=128),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the setting that this process times
    arguments = parser.parse_args()
    target = Target(threads=arguments.threads, batch_size=1, sequence_length=64)
    if arguments.one:
        print(json.dumps(time_encoders(target, SETTINGS[arguments.one])))
        return
    rows = []
    for index in range(arguments.rounds):
        for setting in SETTINGS:
            command = [sys.executable, __file__, "--threads", str(target.threads), "--one", setting]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows += [{"setting": setting, "round": index} | row for row in json.loads(printed)]
    show(rows)
    result = origin(target) | {"target": target.to_dict(), "rows": rows}
    write_result(RESULTS / "spinning.json", result)


def time_encoders(target: Target, setting: dict[str, str]) -> list[dict[str, object]]:
    calls = [session_call(encoder, target, setting) for encoder in ENCODERS]
    alone = [measure([call], protocol=PROTOCOL)[0] for call in calls]
    together = measure(calls, protocol=PROTOCOL)
    return [
        {
            "encoder": str(encoder),
            "alone_p50_ms": one.p50_ms,
            "alone_p95_ms": one.p95_ms,
            "beside_p50_ms": other.p50_ms,
            "beside_p95_ms": other.p95_ms,
        }
        for encoder, one, other in zip(ENCODERS, alone, together, strict=True)
    ]


def session_call(encoder: Architecture, target: Target, setting: dict[str, str]) -> Call:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    for name, value in setting.items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(
        classifier_model(encoder, SHAPE, seed=0).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    inputs = workload(target, SHAPE)
    feeds = {argument.name: inputs[argument.name] for argument in session.get_inputs()}
    return partial(session.run, [OUTPUT], feeds)


def show(rows: list[dict[str, object]]) -> None:
    """Medians over the rounds, in milliseconds."""
    print("| encoder | workers | alone p50 | p95 | beside others p50 | p95 |")
    print("|---|---|---|---|---|---|")
    for encoder in map(str, ENCODERS):
        for setting in SETTINGS:
            same = [r for r in rows if (r["encoder"], r["setting"]) == (encoder, setting)]
            cells = [
                f"{np.median([row[key] for row in same]):.3f}"
                for key in ("alone_p50_ms", "alone_p95_ms", "beside_p50_ms", "beside_p95_ms")
            ]
            print(f"| {encoder} | {setting} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
