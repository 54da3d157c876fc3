"""Gives the events of searches to all watchers; one query serves all watchers of a process."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from anyio import to_thread
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from nas.service.searches.events import Event, read_after

_EVERY_S = 0.25
_LOOKS = 40  # without news, about twenty seconds; then to see whether the search is still there
LASTS_S = 3600.0
"""How long a stream lasts. To go on watching, a client asks again, with a token that is good."""
ALLOWED_S = 5.0
"""How often to check that a watcher still may watch."""
_KEPT = 2000
"""How many events of a watched search are kept in memory, for watchers that are a little behind."""


class NoSeatError(Exception):
    """No further watcher fits.

    Args:
        of_user: whether only this user has too many; others may still watch.
    """

    def __init__(self, line: str, *, of_user: bool) -> None:
        super().__init__(line)
        self.of_user = of_user


class Broadcast:
    """Reads the new events of every watched search, and wakes the watchers.

    Example:
        >>> async def watch(broadcast, search_id):
        ...     async for event in broadcast.events(search_id, after=0):
        ...         print(event.kind)
    """

    def __init__(self, engine: Engine, stopping: Callable[[], bool]) -> None:
        self._engine, self._stopping = engine, stopping
        self._watched: Counter[str] = Counter()  # by search
        self._seats: Counter[str] = Counter()  # by user
        self._recent: dict[str, list[Event]] = {}
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None

    @contextmanager
    def seat(self, owner: str, most: int) -> Iterator[None]:
        """A watcher's place, to be used on the event loop's thread.

        Args:
            most: how many may watch at once; one user has half of that at most.

        Raises:
            NoSeatError: all places are taken, or all of this user's.
        """
        if self._seats.total() >= most:
            raise NoSeatError("too many event streams are open", of_user=False)
        if self._seats[owner] >= max(1, most // 2):
            raise NoSeatError("you have too many event streams open", of_user=True)
        self._seats[owner] += 1
        try:
            yield
        finally:
            self._seats[owner] -= 1
            self._seats += Counter()  # drops users who watch nothing

    async def events(
        self, search_id: str, after: int, allowed: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[Event]:
        """The events of a search, as they happen, for an hour or until the service stops.

        Args:
            after: the number of the last event that the watcher has; 0 for none.
            allowed: whether the watcher still may watch; asked every few seconds.
        """
        until = time.monotonic() + LASTS_S
        asked = time.monotonic()
        self._watched[search_id] += 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        empty = 0
        try:
            while not self._stopping():
                found = await self._next(search_id, after)
                if time.monotonic() - asked >= ALLOWED_S:
                    asked = time.monotonic()
                    if not await allowed():
                        break
                for event in found:
                    after = event.number
                    yield event
                empty = 0 if found else empty + 1
                if empty % _LOOKS == _LOOKS - 1 and not await self._is_there(search_id):
                    break
                if time.monotonic() >= until:
                    break
        finally:
            self._watched[search_id] -= 1
            if not self._watched[search_id]:
                del self._watched[search_id]
                self._recent.pop(search_id, None)

    async def _is_there(self, search_id: str) -> bool:
        """Whether a search still has events, or the database is away; a removed one has none."""
        try:
            return bool(await to_thread.run_sync(read_after, self._engine, {search_id: 0}, 1))
        except SQLAlchemyError:
            return True

    async def _next(self, search_id: str, after: int) -> Sequence[Event]:
        """The events after a number: from memory or the database, or nothing after a short wait."""
        recent = self._recent.get(search_id, [])
        if not recent or recent[0].number > after + 1:
            with suppress(SQLAlchemyError):  # the database is away: the next call asks again
                found = await to_thread.run_sync(read_after, self._engine, {search_id: after})
                if search_id in found:
                    return found[search_id]
        elif recent[-1].number > after:
            return recent[after + 1 - recent[0].number :]
        async with self._news:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), 2 * _EVERY_S)
        return ()

    async def _read(self) -> None:
        """Read the new events of all watched searches, until nobody watches."""
        while self._watched and not self._stopping():
            with suppress(SQLAlchemyError):
                await self._read_once()
            await asyncio.sleep(_EVERY_S)

    async def _read_once(self) -> None:
        known = {
            search_id: kept[-1].number
            for search_id in self._watched
            if (kept := self._recent.get(search_id))
        }
        fresh = [search_id for search_id in self._watched if search_id not in known]
        positions = known | dict.fromkeys(fresh, 0)
        found = await to_thread.run_sync(read_after, self._engine, positions)
        for search_id, new in found.items():
            if search_id in self._watched:
                self._recent[search_id] = [*self._recent.get(search_id, ()), *new][-_KEPT:]
        if found:
            async with self._news:
                self._news.notify_all()
