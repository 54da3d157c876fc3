"""What a person sees of a run: a line for each part of the work, with a bar and the time left."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from nas.terminal.board import Show, live_board, plain_board


class Bar:
    """The bar of some work: call it with what is done and what there is to do in all."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._title = escape(title)
        self._task = progress.add_task(self._title, total=None)

    def __call__(self, done: float, total: float) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def before(self, done: float, total: float) -> None:
        """Show how far the preparations are, as a share after the title."""
        self.note("" if done >= total else f"prepares, {done / total:.0%}")

    def note(self, text: str) -> None:
        """Show ``text`` after the bar's title."""
        self._progress.update(self._task, description=f"{self._title} [dim]{escape(text)}[/]")


class Display:
    """Writes to a console; in a file or a pipe, bars become plain lines.

    Args:
        console: by default standard error, so that standard output holds results alone.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @contextmanager
    def bar(self, title: str) -> Iterator[Bar]:
        """Show a bar with a title while the block runs."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        plain = not self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=plain) as progress:
            if plain:
                self.say(f"{title} ...")
            yield Bar(progress, title)

    @contextmanager
    def board(self, title: str, budgets: Sequence[str]) -> Iterator[Show]:
        """Show a search while it runs: call what this yields with each of its moments.

        Args:
            title: shown above the search.
            budgets: their names, in the order of :attr:`SearchProgress.best`.
        """
        if self.console.is_terminal:
            with live_board(self.console, title, budgets) as show:
                yield show
        else:
            self.say(f"{title} ...")
            yield plain_board(self.say, title, budgets)

    def say(self, line: str) -> None:
        """Print one line."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print one line that stands out."""
        self.console.print(Text("warning: ", "yellow") + Text(line), soft_wrap=True)


def silence() -> None:
    """Silence the messages and bars of libraries."""
    warnings.filterwarnings("ignore", module="torch|transformers|accelerate|sklearn")
    from transformers.utils import logging as chatter

    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
