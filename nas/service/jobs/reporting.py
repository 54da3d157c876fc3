"""Progress as events: what a terminal would show of a run, for those who watch its search."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from nas.service.searches.events import Kind
from nas.terminal.board import Moment, Show
from nas.terminal.progress import Bar, Display

Tell = Callable[[Kind, Mapping[str, Any]], None]

_EVERY_S = 0.5
"""Bars and boards are told at most this often; their last state is always told."""


class Pace:
    """Lets something through at most every half second."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def lets(self, *, always: bool) -> bool:
        """Whether this one passes."""
        now = time.monotonic()
        if not always and now - self._last < _EVERY_S:
            return False
        self._last = now
        return True


class ReportedBar(Bar):
    """A stage's bar, as events."""

    def __init__(self, title: str, tell: Tell) -> None:
        self._title, self._tell, self._pace = title, tell, Pace()
        self._note = ""

    def __call__(self, done: float, total: float) -> None:
        if self._pace.lets(always=done >= total):
            told: dict[str, Any] = {"title": self._title, "done": done, "total": total}
            self._tell("progress", told | ({"note": self._note} if self._note else {}))

    def note(self, text: str) -> None:
        self._note = text


class ReportingDisplay(Display):
    """A display whose lines, bars and boards become events.

    Args:
        tell: takes an event's kind and data.
        data: the service's folder; users see paths relative to it.
    """

    def __init__(self, tell: Tell, data: Path) -> None:
        super().__init__(Console(quiet=True))
        self._tell, self._data = tell, f"{data}/"

    @contextmanager
    def bar(self, title: str) -> Iterator[Bar]:
        bar = ReportedBar(title, self._tell)
        bar(0, 1)
        yield bar
        bar(1, 1)

    @contextmanager
    def board(self, title: str, budgets: Sequence[str]) -> Iterator[Show]:
        pace = Pace()

        def show(progress: object) -> None:
            moment = Moment.model_validate(progress)
            if pace.lets(always=moment.scored >= moment.planned):
                self._tell("search", search_event(budgets, moment))

        yield show

    def say(self, line: str) -> None:
        self._tell("line", {"text": self.inside(line), "level": "info"})

    def warn(self, line: str) -> None:
        self._tell("line", {"text": self.inside(line), "level": "warning"})

    def inside(self, line: str) -> str:
        """A line with paths relative to the service's folder, whose place users need not know."""
        return line.replace(self._data, "")


def search_event(budgets: Sequence[str], moment: Moment) -> dict[str, Any]:
    """A moment of a search as plain values, with each budget beside the best for it."""
    told = moment.model_dump()
    pairs = zip(budgets, told["best"], strict=True)
    return told | {"best": [best and {"budget": budget, **best} for budget, best in pairs]}
