"""The agent's link to its service, which may be cut at any time."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from latency.atomic import replacing
from latency.connection import AwayError, Connection, Patience, RefusedError
from supernet.errors import NasError

_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # between attempts; the last one again and again
_ANSWER_S = 150.0  # time limit of a request that waits for a task, or sends a large profile
_GLANCE_S, _GLANCE_EVERY_S = 3.0, 2.0  # limit and interval of requests that delay measuring
_AWAY = frozenset({*range(100, 200), *range(300, 400), 408, 429, *range(500, 600)})
"""Statuses of a service that restarts, or of a proxy that answers instead."""

Answer = TypeVar("Answer")


class LostError(Exception):
    """A task that is no longer the agent's, or no longer there."""


class DeniedError(NasError):
    """The agent may not speak to the service."""


class Link:
    """Requests to a service.

    Args:
        server: its address, such as ``https://nas.example.org``.
        token: of scope ``device``; None where none is asked for.
        say: tells a person when the link is cut and when it is there again.

    Raises:
        NasError: no HTTP address.
    """

    def __init__(self, server: str, token: str | None, say: Callable[[str], None]) -> None:
        self.server, self._say = server.rstrip("/"), say
        self._service = Connection(self.server, token, timeout_s=_ANSWER_S, away=_AWAY)
        self._patience = Patience(_WAITS_S, forever=True)
        self._glanced_s = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._service.__exit__()

    def insist(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """What the service answers, once it does; None where it has nothing to say.

        Raises:
            LostError: what the path names is not there, or not the agent's any more.
            DeniedError: the token is refused.
            RefusedError: the request is.
        """
        return self._insist(path, lambda: self._service.json(method, path, json=body))

    def attempt(self, path: str, body: Mapping[str, Any]) -> None:
        """Tell the service something, at once or not at all, and not more often than is of use.

        Raises:
            LostError, DeniedError, RefusedError: as :meth:`insist`.
        """
        if time.monotonic() < max(self._patience.until_s, self._glanced_s + _GLANCE_EVERY_S):
            return
        self._glanced_s = time.monotonic()
        with suppress(AwayError):
            self._ask(path, lambda: self._service.json("POST", path, json=body, timeout=_GLANCE_S))

    def fetch(self, path: str, into: Path, sha256: str) -> None:
        """A file of the service, whole.

        Raises:
            LostError, DeniedError, RefusedError: as :meth:`insist`.
            NasError: what comes is not what the task says.
        """

        def fetched() -> str:
            digest = hashlib.sha256()
            with (
                self._service.response("GET", path) as answer,
                replacing(into) as temporary,
                temporary.open("wb") as file,
            ):
                for part in answer.iter_bytes():
                    digest.update(part)
                    file.write(part)
            return digest.hexdigest()

        if self._insist(path, fetched) != sha256:
            raise NasError(f"{path} is not the file that the task asks to be timed")

    def _insist(self, path: str, ask: Callable[[], Answer]) -> Answer:
        while True:
            self._patience.wait()
            with suppress(AwayError):
                return self._ask(path, ask)

    def _ask(self, path: str, ask: Callable[[], Answer]) -> Answer:
        """The answer to a request; a person is told when the link is cut, and when it is back."""
        try:
            answer = ask()
        except AwayError as error:
            if not self._patience.failures:
                self._say(f"{error}; trying again")
            self._patience.fail(error)
            raise
        except RefusedError as error:
            self._reached()
            if error.status in (404, 409) and "/tasks/" in path:
                raise LostError from error
            if error.status in (200, 401, 403):
                raise DeniedError(f"{self.server} refuses this agent: {error}") from error
            raise
        self._reached()
        return answer

    def _reached(self) -> None:
        if self._patience.failures:
            self._say(f"{self.server} answers again")
        self._patience.renew()
