"""Measuring a device: ``latency profile``, or ``latency bundle`` for a device that has little."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency.cards import error_table, margin_line
from latency.commands.arguments import (
    BatchesOption,
    DeviceOption,
    DtypeOption,
    LengthsOption,
    RuntimeOption,
    SeedOption,
    SequencesOption,
    SpacesOption,
    TargetOption,
    ThreadsOption,
    TimeOption,
    read_asked,
)
from latency.commands.printing import err, out, say, warn
from latency.durations import parse_seconds
from latency.fingerprint import Fingerprint
from latency.options import load_target, parse_share
from latency.predictor import LatencyPredictor
from latency.profiler import Status, profile_device
from latency.progress import bar


def profile(
    output: Annotated[Path, typer.Option("--output", "-o", help="The profile, a JSON file.")],
    time: TimeOption = "3m",
    error: Annotated[
        str | None,
        typer.Option(help="Stop as soon as predictions are so far off on average, such as `3%`."),
    ] = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    dtype: DtypeOption = None,
    batch: BatchesOption = None,
    sequence: SequencesOption = None,
    lengths: LengthsOption = None,
    space: SpacesOption = ["minilm"],  # noqa: B006 - Typer copies it
    target: TargetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Measure this device, so that latencies on it can be predicted.

    **Example:** `latency profile -o pi.json --time 5m --sequence 32,128 --space minilm`

    Keep the device quiet meanwhile. Interrupted, by Ctrl-C or a power cut, the same command goes on
    from what was measured. In the end it says how far predictions are off, beside the floor: how
    far a second measurement of the same models is off the first.
    """
    seconds = parse_seconds(time)
    share = None if error is None else parse_share(error)
    where, workloads, spaces = read_asked(
        target, batch, sequence, lengths, space,
        runtime=runtime, device=device, threads=threads, dtype=dtype,
    )  # fmt: skip
    say(f"{where}" + (f"; {len(workloads)} workloads" if len(workloads) > 1 else ""))
    ahead = Fingerprint.of_this_machine(where).warnings(where)
    warn(ahead)
    try:
        with bar(err, "Profile") as show:

            def told(status: Status) -> None:
                percent = status.error_percent
                off = "error not known yet" if percent is None else f"error {percent:.1f}%"
                show(status.share, f"{status.measured} measured, {off}")

            measured = profile_device(
                where, spaces, workloads=workloads, time_budget_s=seconds, target_error=share,
                seed=seed, path=output, progress=told,
            )  # fmt: skip
    except KeyboardInterrupt:
        say(f"latency: interrupted; the same command goes on with {output}")
        raise typer.Exit(130) from None
    errors = LatencyPredictor(measured).fit().errors()
    out.print(f"{output}: {len(measured.measurements)} measured in {measured.seconds:.0f} s")
    out.print(error_table(errors))
    out.print(margin_line(errors))
    warn([warning for warning in measured.warnings() if warning not in ahead])


def bundle(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The bundle, a Python zip application (.pyz).")
    ],
    chosen: Annotated[
        int, typer.Option(min=1, help="Kernels and odd models to learn from, at the most.")
    ] = 120,
    drawn: Annotated[
        int, typer.Option(min=20, help="Models drawn at random; a third is measured twice.")
    ] = 60,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Worker threads; by default the device's cores, up to 4."),
    ] = None,
    dtype: DtypeOption = None,
    batch: BatchesOption = None,
    sequence: SequencesOption = None,
    lengths: LengthsOption = None,
    space: SpacesOption = ["minilm"],  # noqa: B006 - Typer copies it
    target: TargetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Write one file that profiles a device where only NumPy and ONNX Runtime run.

    **Example:** `latency bundle -o bundle.pyz --sequence 64`, then on the device
    `python bundle.pyz --time 3m -o pi.json`, then here `latency show pi.json`

    What the device measures is chosen here and now; `latency profile` on the device itself learns
    as it measures, and knows when it is good enough.
    """
    from latency.bundle import write_bundle  # needs onnx and onnxruntime

    where, workloads, spaces = read_asked(
        target, batch, sequence, lengths, space, threads=threads, dtype=dtype
    )
    if threads is None and target is not None:
        threads = load_target(target).threads
    with bar(err, "Bundle") as show:
        size = write_bundle(
            output, where, spaces, workloads, threads=threads, chosen=chosen, drawn=drawn,
            seed=seed, progress=lambda done, all_: show(done / all_, f"{done} of {all_} graphs"),
        )  # fmt: skip
    out.print(
        f"{output}: {size / 1e6:.1f} MB. On the device, with numpy and onnxruntime:\n"
        f"python {output.name} --time 3m -o profile.json"
    )
