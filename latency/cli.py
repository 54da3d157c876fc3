"""The command line of a device: ``latency profile`` and its companions. No torch."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import quote

import typer
from rich.console import Console

from supernet.errors import NasError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latency.profiler import Status
    from latency.target import Target, Workload
    from supernet.space import SearchSpace

app = typer.Typer(
    name="latency",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="How long BERT-like models take on a device: measure it once, then predict any of them.",
)
out = Console(highlight=False, markup=False)
err = Console(highlight=False, markup=False, stderr=True)

_DEVICE = ("httpx", "onnx", "onnxruntime", "scipy")  # what `tailorbert[device]` brings
# What Typer says of options that do not parse. It exports none of its error's bases by name.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)

TimeOption = Annotated[
    str, typer.Option(help="To measure for: `90`, `90s`, `3m`. More time, smaller error.")
]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        help="`onnxruntime` (the default), `torch-eager`, `torch-compile` or `torch-cuda-graphs`."
    ),
]
DeviceOption = Annotated[str | None, typer.Option(help="`cpu` (the default) or `cuda`.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Worker threads; by default all usable cores, up to 4."),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(help="`float32` (the default), `float16`, `bfloat16` or `int8`."),
]
BatchesOption = Annotated[
    str | None,
    typer.Option(
        "--batch",
        help="Batch sizes to measure, such as `1,8`; by default 1. All combinations with the "
        "sequence lengths are measured, and predictions hold for what lies between.",
    ),
]
SequencesOption = Annotated[
    str | None,
    typer.Option("--sequence", help="Sequence lengths to measure, such as `64,128`; else 64."),
]
BatchOption = Annotated[
    int | None, typer.Option(min=1, help="Predict for this batch size; by default the target's.")
]
SequenceOption = Annotated[
    int | None,
    typer.Option(min=1, help="Predict for this sequence length; by default the target's."),
]
LengthsOption = Annotated[
    Path | None,
    typer.Option(
        help="How long texts are: a JSON or YAML file of `{tokens: texts}`. A batch is padded to "
        "its longest, and the latency is the expected one."
    ),
]
SpacesOption = Annotated[
    list[str],
    typer.Option(
        "--space",
        help="Architectures to predict: a name under configs/spaces, or a YAML file. Give it "
        "several times to cover several.",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        help="All of the above at once: a name under configs/targets, or a YAML file. Options "
        "given besides replace what it says."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of what is measured.")]
PlotOption = Annotated[Path | None, typer.Option(help="Also draw it, as PNG, SVG or PDF.")]
ProfileArgument = Annotated[Path, typer.Argument(help="A file that `latency profile` wrote.")]


@app.command()
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
    from latency.cards import error_table, margin_line
    from latency.durations import parse_seconds
    from latency.fingerprint import Fingerprint
    from latency.options import parse_share
    from latency.predictor import LatencyPredictor
    from latency.profiler import profile_device
    from latency.progress import bar

    seconds = parse_seconds(time)
    share = None if error is None else parse_share(error)
    where, workloads, spaces = _asked(
        target, batch, sequence, lengths, space,
        runtime=runtime, device=device, threads=threads, dtype=dtype,
    )  # fmt: skip
    _say(f"{where}" + (f"; {len(workloads)} workloads" if len(workloads) > 1 else ""))
    ahead = Fingerprint.of_this_machine(where).warnings(where)
    _warn(ahead)
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
        _say(f"latency: interrupted; the same command goes on with {output}")
        raise typer.Exit(130) from None
    errors = LatencyPredictor(measured).fit().errors()
    out.print(f"{output}: {len(measured.measurements)} measured in {measured.seconds:.0f} s")
    out.print(error_table(errors))
    out.print(margin_line(errors))
    _warn([warning for warning in measured.warnings() if warning not in ahead])


@app.command()
def show(profile: ProfileArgument, plot: PlotOption = None) -> None:
    """Show what a profile holds and how good its predictions are.

    **Example:** `latency show pi.json --plot pi.png`

    The picture sets predictions against measurements, each model predicted from all others, and
    shows how kernels' times grow.
    """
    from latency.cards import error_table, margin_line, profile_table, reference_table
    from latency.predictor import LatencyPredictor
    from latency.profile import Profile

    _check_plot(plot)
    read = Profile.load(profile)
    out.print(profile_table(read))
    _warn(read.warnings())
    if not read.complete:
        return
    predictor = LatencyPredictor(read).fit()
    errors = predictor.errors()
    out.print(error_table(errors))
    out.print(margin_line(errors))
    out.print(reference_table(predictor))
    if plot is not None:
        from latency.plots import profile_plot

        _draw(profile_plot(predictor), plot)


@app.command()
def predict(
    profile: ProfileArgument,
    architectures: Annotated[
        list[str],
        typer.Argument(
            help="Architectures as JSON, or JSON files of one or a list, or folders of models."
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            help="What to predict for: a name under configs/targets, or a YAML file, of the "
            "profile's device, runtime, threads and dtype. By default the profile's own."
        ),
    ] = None,
    batch: BatchOption = None,
    sequence: SequenceOption = None,
    lengths: LengthsOption = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="Of the upper bound: the share of models that are below it. By default 0.95, or "
            "what the profile supports, if that is less."
        ),
    ] = None,
    percentile: Annotated[int, typer.Option(help="Of a model's calls: 50 or 95.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Predict the latency of architectures on a profiled device.

    **Example:** `latency predict pi.json fast-model/model --sequence 32`

    An architecture in JSON:
    `{"hidden_size": 128, "layers": [{"num_heads": 2, "qkv_size": 128, "intermediate_size": 512}]}`
    """
    from latency.candidates import read_candidates
    from latency.cards import prediction_rows, prediction_table
    from latency.options import changed, load_target
    from latency.predictor import LatencyPredictor
    from latency.profile import Profile

    read = [one for text in architectures for one in read_candidates(text)]
    if not read:
        raise NasError("there is no architecture to predict")
    for one in read:
        if not one.told:
            raise NasError(
                f"a model of {one.architecture} has matrices that are factored as those of no "
                "space are: measure it, with nas evaluate --target"
            )
    measured = Profile.load(profile)
    where = changed(
        measured.target if target is None else load_target(target),
        lengths=lengths, batch_size=batch, sequence_length=sequence,
    )  # fmt: skip
    for one in read:
        if one.shape is not None and one.shape.hidden_act != measured.shape.hidden_act:
            _warn(
                [
                    f"{one.architecture} has {one.shape.hidden_act}, and the profile is of models "
                    f"with {measured.shape.hidden_act}"
                ]
            )
    predictor = LatencyPredictor(measured).fit()
    if confidence is None:
        confidence = min(0.95, math.floor(100 * predictor.max_confidence) / 100)
    bound = predictor.margin(confidence, percentile)
    predicted = predictor.predict([one.architecture for one in read], percentile, target=where)
    upper = predicted * (1 + bound)
    if json:
        rows = prediction_rows(read, predicted, upper, profile=measured)
        out.print_json(data={
            "target": where.to_dict(), "percentile": percentile, "confidence": confidence,
            "architectures": rows,
        }, indent=None if not out.is_terminal else 2)  # fmt: skip
        return
    out.print(f"{where}, {percentile}th percentile")
    out.print(prediction_table(read, predicted, upper, profile=measured, confidence=confidence))


@app.command()
def compare(
    first: ProfileArgument,
    second: Annotated[Path, typer.Argument(help="Another, of another device or runtime.")],
    plot: PlotOption = None,
) -> None:
    """Compare two devices, runtimes or numbers of threads: which is faster, and for what.

    **Example:** `latency compare laptop.json pi.json --plot both.png`

    A sample of the architectures that both profiles cover is predicted on both, at the first batch
    size and sequence length that both hold for.
    """
    from latency.cards import comparison_line, comparison_table, differences
    from latency.comparison import compare
    from latency.profile import Profile

    _check_plot(plot)
    ours, theirs = Profile.load(first), Profile.load(second)
    found = compare(ours, theirs)
    names = (first.stem, second.stem) if first.stem != second.stem else (str(first), str(second))
    for line in differences(ours, theirs) or ["the same target, machine and software"]:
        out.print(line)
    out.print(comparison_table(found, *names))
    out.print(comparison_line(found, *names))
    if plot is not None:
        from latency.plots import comparison_plot

        _draw(comparison_plot(found, *names), plot)


@app.command()
def merge(
    first: ProfileArgument,
    second: Annotated[Path, typer.Argument(help="Another of the same device and runtime.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Receives what both hold.")],
) -> None:
    """Put two profiles of one device into one: other spaces, other workloads, or just more.

    **Example:** `latency merge monday.json tuesday.json -o pi.json`
    """
    from latency.profile import Profile

    both = Profile.load(first).merged(Profile.load(second))
    both.save(output)
    out.print(f"{output}: {len(both.measurements)} measured in {len(both.sessions)} sessions")


@app.command()
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
    from latency.bundle import write_bundle
    from latency.options import load_target
    from latency.progress import bar

    where, workloads, spaces = _asked(
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


@app.command()
def agent(
    server: Annotated[
        str, typer.Option(help="The service's address, such as `https://nas.example.org`.")
    ],
    name: Annotated[
        str,
        typer.Option(help="Of this device's target: lower-case letters, digits, `.`, `_`, `-`."),
    ],
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with a token of scope `device`; none where the service asks for none."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="What is measured: a name under configs/targets, or a YAML file. By default ONNX "
            "Runtime on all usable cores, up to 4, with one sequence of 64 tokens at a time."
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="A folder of the agent's own, in which it keeps what it is at; by default below "
            "`~/.cache/tailorbert/agents`."
        ),
    ] = None,
) -> None:
    """Measure on this device what searches of a service ask for, until Ctrl-C.

    **Example:** `latency agent --server https://nas.example.org --name pi --token-file token`

    Keep the device quiet meanwhile. A connection that is cut does no harm, nor does an agent that
    is killed: the same command goes on from what was measured.
    """
    from latency.agent import Agent
    from latency.agent_link import Link, read_token
    from latency.options import default_target, load_target

    where = default_target() if target is None else load_target(target)
    folder = state or Path("~/.cache/tailorbert/agents").expanduser() / quote(name, safe="")
    token = None if token_file is None else read_token(token_file)
    try:
        with Link(server, token, _say) as link:
            Agent(link, name, where, folder, _say).run()
    except KeyboardInterrupt:
        _say("latency: interrupted; the same command goes on where this was")
        raise typer.Exit(130) from None


def _asked(
    name: str | None,
    batch: str | None,
    sequence: str | None,
    lengths: Path | None,
    space: list[str],
    **given: Any,
) -> tuple[Target, tuple[Workload, ...], list[SearchSpace]]:
    """The target, grid and spaces that options name."""
    from latency.options import changed, default_target, grid, load_target, parse_counts
    from supernet.configs import load_space

    sizes = () if batch is None else parse_counts("batch", batch)
    tokens = () if sequence is None else parse_counts("sequence", sequence)
    where = changed(
        default_target() if name is None else load_target(name),
        lengths=lengths,
        batch_size=sizes[0] if sizes else None,
        sequence_length=tokens[0] if tokens else None,
        **given,
    )
    return where, grid(where, sizes, tokens), [load_space(one) for one in space]


def _check_plot(path: Path | None) -> None:
    if path is not None:
        from latency.drawing import check_plot

        check_plot(path)


def _draw(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path, dpi=200)
    except OSError as error:
        raise NasError(f"plot {path} cannot be written: {error.strerror}") from error
    out.print(f"drawn in {path}")


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        _say(f"warning: {warning}")


def _say(line: str) -> None:
    """Print one line to standard error."""
    err.print(line, soft_wrap=True)


def main() -> None:
    """Run the command line; a fault that the user can mend is one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        code = app(standalone_mode=False)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("supernet", "latency"):
            raise  # our own fault, which no package mends
        wanted = "'tailorbert[device]'" if error.name in _DEVICE else error.name
        fault = f"this command needs the package {error.name}: pip install {wanted}"
    except _UsageError as error:
        fault = " ".join(error.format_message().split())
    except NasError as error:
        fault = " ".join(str(error).split())
    else:
        sys.exit(code or 0)
    if fault:  # without any argument it is the help, which Typer has shown
        sys.stderr.write(f"latency: {fault}\n")
    sys.exit(2)
