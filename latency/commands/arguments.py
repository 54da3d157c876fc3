"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from latency.options import changed, default_target, grid, load_target, parse_counts
from latency.target import Target, Workload
from supernet.configs import load_space
from supernet.space import SearchSpace

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


def read_asked(
    name: str | None,
    batch: str | None,
    sequence: str | None,
    lengths: Path | None,
    space: list[str],
    **given: Any,
) -> tuple[Target, tuple[Workload, ...], list[SearchSpace]]:
    """Read the target, the grid to measure and the spaces that options name."""
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
