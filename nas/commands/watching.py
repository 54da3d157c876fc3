"""A service's search as a person sees it: the same bars, board and lines as of a run here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

from latency.connection import one_line
from nas.service.client.event_stream import StreamEvent
from nas.service.client.replies import Progress, understood
from nas.terminal.board import Moment, Show
from nas.terminal.progress import Bar, Display

_WAITING = {"queued": "waits for a worker", "running": "is running"}


class Watcher:
    """Shows events, one after the other; a context, at whose end nothing is left on the screen.

    Args:
        display: where.
        budgets: what each is called, in the order of the search's models.
    """

    def __init__(self, display: Display, budgets: Sequence[str]) -> None:
        self._display, self._budgets = display, budgets
        self._shown = ExitStack()
        self._title: str | None = None
        self._bar: Bar | None = None
        self._show_board: Show | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def show(self, event: StreamEvent) -> None:
        """Show one; kinds that a later service may know are passed over."""
        data = event.data
        if event.kind == "progress":
            self._progress(understood(Progress, data))
        elif event.kind == "search":
            self._search(understood(Moment, data))
        elif event.kind == "line":
            say = self._display.warn if data.get("level") == "warning" else self._display.say
            say(one_line(str(data.get("text", ""))))
        elif event.kind == "stage":
            self._clear()
        elif event.kind == "status" and data.get("status") in _WAITING:
            self._display.say(f"the search {_WAITING[data['status']]}")

    def lost(self, reason: str) -> None:
        """Say that the connection is lost, and what becomes of it."""
        self._display.warn(f"{reason}; trying again")

    def _progress(self, progress: Progress) -> None:
        if self._bar is None or progress.title != self._title:
            self._clear()
            self._bar = self._shown.enter_context(self._display.bar(progress.title))
            self._title = progress.title
        self._bar(progress.done, progress.total)
        self._bar.note(progress.note)

    def _search(self, moment: Moment) -> None:
        if self._show_board is None:
            self._clear()
            board = self._display.board("Search", self._named(len(moment.best)))
            self._show_board = self._shown.enter_context(board)
        self._show_board(moment)

    def _named(self, count: int) -> Sequence[str]:
        if len(self._budgets) == count:
            return self._budgets
        return [f"budget {number}" for number in range(1, count + 1)]

    def _clear(self) -> None:
        self._shown.close()
        self._title = self._bar = self._show_board = None
