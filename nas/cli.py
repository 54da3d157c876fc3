"""The command line: ``nas search`` and its companions."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import typer

from nas.commands.admin import app as admin
from nas.commands.client import cancel, fetch, retry, searches, submit, watch
from nas.commands.finished import compare, evaluate, quantize, try_texts
from nas.commands.learning import compress, distill, finetune
from nas.commands.searching import front, search
from nas.commands.serving import serve, work
from supernet.errors import NasError

INSTALL = "pip install 'tailorbert[train,service,hub,defaults]'"

app = typer.Typer(
    name="nas",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="From a latency budget on your device to a BERT-like model that meets it, measured.",
)
_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Searches and models here": {
        "search": search,
        "front": front,
        "finetune": finetune,
        "distill": distill,
        "compress": compress,
        "quantize": quantize,
        "compare": compare,
        "evaluate": evaluate,
        "try": try_texts,
    },
    "Searches on a service": {
        "submit": submit,
        "watch": watch,
        "fetch": fetch,
        "searches": searches,
        "cancel": cancel,
        "retry": retry,
    },
    "The service itself": {"serve": serve, "worker": work},
}
for panel, commands in _COMMANDS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel)(command)
app.add_typer(admin, name="admin", rich_help_panel="The service itself")


def main() -> None:
    """Run the command line; a fault that the user can mend is one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("nas", "supernet", "latency"):
            raise  # our own fault, which no package mends
        print(f"nas: this command needs the package {error.name}: {INSTALL}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except NasError as error:
        print(f"nas: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
