"""Progress of a long command, for people: a bar, or lines in a file or pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

Show = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and a note."""


@contextmanager
def bar(console: Console, title: str) -> Iterator[Show]:
    """Show a bar within; in a file or pipe, a line at the start and after every quarter.

    The bar is redrawn only when progress is reported: a thread that redraws it would disturb what
    is being timed.
    """
    if not console.is_terminal:
        yield _Lines(console, title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task(title, total=1.0, note="")

        def show(share: float, note: str) -> None:
            progress.update(task, completed=share, note=note, refresh=True)

        progress.refresh()
        yield show


class _Lines:
    """Progress in a file or a pipe."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title, self._said = console, title, 0
        self._say(f"{title} ...")

    def __call__(self, share: float, note: str) -> None:
        quarter = int(4 * share)
        if quarter > self._said:
            self._said = quarter
            self._say(f"{self._title}: {quarter / 4:.0%}, {note}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
