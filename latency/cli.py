"""The command line of a device: ``latency profile`` and its companions. No torch."""

from __future__ import annotations

import logging
import sys
from typing import cast

import typer

from latency.commands.predicting import compare, merge, predict, show
from latency.commands.profiling import bundle, profile
from latency.commands.serving import agent
from supernet.errors import NasError

app = typer.Typer(
    name="latency",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="How long BERT-like models take on a device: measure it once, then predict any of them.",
)
for command in (profile, show, predict, compare, merge, bundle, agent):
    app.command()(command)

_DEVICE = ("httpx2", "onnx", "onnxruntime", "scipy")  # what `tailorbert[device]` brings
# What Typer says of options that do not parse. It exports none of its error's bases by name.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)


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
