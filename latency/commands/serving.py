"""A device in a service's pay: ``latency agent``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from latency.commands.printing import say
from latency.options import default_target, load_target


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
    from latency.agent import Agent  # needs httpx2
    from latency.agent_link import Link
    from latency.connection import read_token

    where = default_target() if target is None else load_target(target)
    folder = state or Path("~/.cache/tailorbert/agents").expanduser() / quote(name, safe="")
    token = None if token_file is None else read_token(token_file)
    try:
        with Link(server, token, say) as link:
            Agent(link, name, where, folder, say).run()
    except KeyboardInterrupt:
        say("latency: interrupted; the same command goes on where this was")
        raise typer.Exit(130) from None
