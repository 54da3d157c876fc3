"""The agent's connection to its service, which may be interrupted at any time."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from latency.atomic import replacing
from supernet.errors import NasError

_PATIENCE_S = 30.0  # the longest wait between attempts
_ANSWER_S = 150.0  # time limit of a request that waits for a task, or sends a large profile
_GLANCE_S, _GLANCE_EVERY_S = 3.0, 2.0  # limit and interval of requests that delay measuring


def read_token(path: Path) -> str:
    """Read a token from a file.

    Raises:
        NasError: the file cannot be read, or holds something else.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(f"token file {path} cannot be read: {error}") from error
    if not token.isprintable() or len(token.split()) != 1:
        raise NasError(f"token file {path} must hold one token and nothing else")
    return token


class LostError(Exception):
    """The task is no longer the agent's, or no longer exists."""


class DeniedError(NasError):
    """The service refuses the agent's token."""


class RefusedError(NasError):
    """The service rejects a request, and would reject it again."""


class Link:
    """Requests to a service.

    Args:
        server: its address, such as ``https://nas.example.org``.
        token: a token of scope ``device``; None if the service requires none.
        say: prints a line when the connection is lost, and when it is back.

    Raises:
        NasError: the server is no HTTP address.
    """

    def __init__(self, server: str, token: str | None, say: Callable[[str], None]) -> None:
        self.server, self._say = server.rstrip("/"), say
        if not self.server.startswith(("http://", "https://")):
            raise NasError(f"server must be an address such as https://host, not {server!r}")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            self._client = httpx.Client(
                base_url=self.server, headers=headers, timeout=httpx.Timeout(_ANSWER_S, connect=10)
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise NasError(f"server {server!r} or its token is not accepted: {error}") from error
        self._failures, self._next_s, self._glanced_s = 0, 0.0, -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def insist(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Send a request until the service answers; None if its answer is empty.

        Raises:
            LostError: the task in the path does not exist, or is no longer the agent's.
            DeniedError: the token is refused.
            RefusedError: the request is refused.
        """
        while True:
            answer = self._answer(lambda: self._client.request(method, path, json=body))
            if answer is not None:
                return self._checked(answer)

    def attempt(self, path: str, body: Mapping[str, Any]) -> None:
        """Send a request once. Do nothing if the last one was too recent, or the service is away.

        Raises: as :meth:`insist`.
        """
        if time.monotonic() < max(self._next_s, self._glanced_s + _GLANCE_EVERY_S):
            return
        self._glanced_s = time.monotonic()
        answer = self._answer(lambda: self._client.post(path, json=body, timeout=_GLANCE_S))
        if answer is not None:
            self._checked(answer)

    def fetch(self, path: str, into: Path, sha256: str) -> None:
        """Download a file of a task.

        Raises:
            LostError: there is no such file.
            DeniedError: the token is refused.
            NasError: the file has another checksum than the task states.
        """
        while True:
            digest = hashlib.sha256()

            def written(digest: Any = digest) -> httpx.Response:
                with self._client.stream("GET", path) as answer:
                    if answer.status_code != 200:
                        answer.read()
                        return answer
                    with replacing(into) as temporary, temporary.open("wb") as file:
                        for part in answer.iter_bytes():
                            digest.update(part)
                            file.write(part)
                return answer

            answer = self._answer(written)
            if answer is None:
                continue
            if answer.status_code != 200:
                self._checked(answer)
            self._reached()
            if digest.hexdigest() != sha256:
                raise NasError(f"{path} is not the file that the task asks to be timed")
            return

    def _answer(self, ask: Callable[[], httpx.Response]) -> httpx.Response | None:
        """The service's answer, once it is time to ask; None if the caller should try later."""
        time.sleep(max(0.0, self._next_s - time.monotonic()))
        try:
            answer = ask()
        except httpx.TransportError as error:
            self._failed(str(error) or type(error).__name__)
            return None
        if _is_passing(answer):
            self._failed(f"status {answer.status_code}", answer.headers.get("Retry-After"))
            return None
        return answer

    def _checked(self, answer: httpx.Response) -> Any:
        self._reached()
        if answer.status_code in (404, 409) and "/tasks/" in answer.url.path:
            raise LostError
        if answer.is_success:
            return _json(answer)
        detail = _detail(answer)
        if answer.status_code in (401, 403):
            raise DeniedError(f"{self.server} refuses this agent: {detail}")
        raise RefusedError(f"{self.server}: {detail}")

    def _failed(self, why: str, retry_after: str | None = None) -> None:
        """Note a failure. Wait longer each time, and for a random time."""
        if not self._failures:
            self._say(f"{self.server} does not answer ({why}); trying again")
        self._failures += 1
        # Agents that lost a server together must not return together. The chance is no secret.
        wait_s = min(_PATIENCE_S, 2.0 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        if retry_after is not None and retry_after.isdecimal():
            wait_s = max(wait_s, min(_PATIENCE_S, float(retry_after)))
        self._next_s = time.monotonic() + wait_s

    def _reached(self) -> None:
        if self._failures:
            self._say(f"{self.server} answers again")
        self._failures, self._next_s = 0, 0.0


def _is_passing(answer: httpx.Response) -> bool:
    """Whether the same request may succeed later. A proxy may have answered instead."""
    status = answer.status_code
    return status < 200 or 300 <= status < 400 or status in (408, 429) or status >= 500


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else None
    except ValueError as error:
        raise DeniedError(f"{answer.url} is not answered by a service of searches") from error


def _detail(answer: httpx.Response) -> str:
    """The line of text in a problem report."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
