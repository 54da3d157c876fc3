"""What profiles tell: ``latency show``, ``predict``, ``compare`` and ``merge``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency.candidates import read_candidates
from latency.cards import (
    comparison_line,
    comparison_table,
    differences,
    error_table,
    margin_line,
    prediction_rows,
    prediction_table,
    profile_table,
    reference_table,
)
from latency.commands.arguments import (
    BatchOption,
    LengthsOption,
    PlotOption,
    ProfileArgument,
    SequenceOption,
)
from latency.commands.printing import out, warn
from latency.comparison import compare as compared
from latency.options import changed, load_target
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from supernet.errors import NasError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show(profile: ProfileArgument, plot: PlotOption = None) -> None:
    """Show what a profile holds and how good its predictions are.

    **Example:** `latency show pi.json --plot pi.png`

    The picture sets predictions against measurements, each model predicted from all others, and
    shows how kernels' times grow.
    """
    _check_plot(plot)
    read = Profile.load(profile)
    out.print(profile_table(read))
    warn(read.warnings())
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
            warn(
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
    _check_plot(plot)
    ours, theirs = Profile.load(first), Profile.load(second)
    found = compared(ours, theirs)
    names = (first.stem, second.stem) if first.stem != second.stem else (str(first), str(second))
    for line in differences(ours, theirs) or ["the same target, machine and software"]:
        out.print(line)
    out.print(comparison_table(found, *names))
    out.print(comparison_line(found, *names))
    if plot is not None:
        from latency.plots import comparison_plot

        _draw(comparison_plot(found, *names), plot)


def merge(
    first: ProfileArgument,
    second: Annotated[Path, typer.Argument(help="Another of the same device and runtime.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Receives what both hold.")],
) -> None:
    """Put two profiles of one device into one: other spaces, other workloads, or just more.

    **Example:** `latency merge monday.json tuesday.json -o pi.json`
    """
    both = Profile.load(first).merged(Profile.load(second))
    both.save(output)
    out.print(f"{output}: {len(both.measurements)} measured in {len(both.sessions)} sessions")


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
