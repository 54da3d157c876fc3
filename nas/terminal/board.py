"""A search as a person watches it: the best for each budget, the pace and the time left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


class Best(BaseModel):
    """The best for a budget, made from any object with these attributes."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    latency_ms: float
    score: float
    architecture: Annotated[str, BeforeValidator(str)]


class Moment(BaseModel):
    """What is shown of a search, made from any object with these attributes.

    See :class:`nas.search.progress.SearchProgress`.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True)

    scored: int
    planned: int
    front_size: int
    per_minute: float | None
    seconds_left: float | None
    expected_gain: float | None
    best: list[Best | None]


Show = Callable[[object], None]
"""Shows a search's progress: takes a :class:`Moment`, or an object that one is made from."""


@contextmanager
def live_board(console: Console, title: str, budgets: Sequence[str]) -> Iterator[Show]:
    """A table that is drawn at most four times a second, and is removed at the end."""
    begun = Text(f"{title} ...")
    with Live(begun, console=console, refresh_per_second=4, transient=True) as live:
        yield lambda progress: live.update(board(title, budgets, Moment.model_validate(progress)))


def plain_board(say: Callable[[str], None], title: str, budgets: Sequence[str]) -> Show:
    """Says a line at each tenth of the plan."""
    said = 0

    def show(progress: object) -> None:
        nonlocal said
        moment = Moment.model_validate(progress)
        tenth = 10 * moment.scored // max(moment.planned, 1)
        if tenth > said:
            said = tenth
            say(f"{title}: {one_line(budgets, moment)}")

    return show


def board(title: str, budgets: Sequence[str], progress: Moment) -> RenderableType:
    """The table of one moment.

    Args:
        title: of the stage.
        budgets: their names, in the order of ``progress.best``.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column("budget", no_wrap=True)
    table.add_column("predicted", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("architecture")  # the one that gives way where the terminal is narrow
    table.add_row("budget", "predicted", "score", "best so far", style="dim")
    for budget, best in zip(budgets, progress.best, strict=True):
        *figures, architecture = _cells(best)
        whole_line = Text(architecture, no_wrap=True, overflow="ellipsis")
        table.add_row(Text(budget), *figures, whole_line)

    way = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(progress.planned, 1), completed=progress.scored, width=24)
    way.add_row(Text(title), bar, _left(progress))
    return Group(way, Text(_facts(progress), "dim"), table)


def one_line(budgets: Sequence[str], progress: Moment) -> str:
    """The same as one line, for a file or a pipe."""
    found = [
        f"{budget}: nothing yet" if best is None else f"{budget}: {', '.join(_cells(best))}"
        for budget, best in zip(budgets, progress.best, strict=True)
    ]
    return "; ".join(filter(None, [_facts(progress), _left(progress), *found]))


def _facts(progress: Moment) -> str:
    facts = [f"{progress.scored}/{progress.planned} evaluations"]
    if progress.per_minute is not None:
        facts.append(f"{progress.per_minute:.3g} a minute")
    facts.append(f"{progress.front_size} on the front")
    if progress.expected_gain is not None:
        facts.append(f"next expected to gain {progress.expected_gain:.2g}")
    return ", ".join(facts)


def _left(progress: Moment) -> str:
    left = progress.seconds_left
    return f"{timedelta(seconds=math.ceil(left))} left" if left else ""


def _cells(best: Best | None) -> tuple[str, str, str]:
    if best is None:
        return "", "", "nothing yet"
    return f"{best.latency_ms:.3g} ms", f"{best.score:.4f}", best.architecture
