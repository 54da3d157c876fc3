"""The agent's link to its service, which may be cut at any time."""

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

_PATIENCE_S = 30.0  # between attempts, at the most
_ANSWER_S = 150.0  # of a request that may wait for a task, or have a large profile checked
_GLANCE_S, _GLANCE_EVERY_S = 3.0, 2.0  # of one beside which measuring stands still


def read_token(path: Path) -> str:
    """The token that a file holds.

    Raises:
        NasError: it cannot be read, or holds something else.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(f"token file {path} cannot be read: {error}") from error
    if not token.isprintable() or len(token.split()) != 1:
        raise NasError(f"token file {path} must hold one token and nothing else")
    return token


class LostError(Exception):
    """A task that is no longer the agent's, or no longer there."""


class DeniedError(NasError):
    """The agent may not speak to the service."""


class RefusedError(NasError):
    """What the service will not take, however often it is sent."""


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
        """What the service answers, once it does; None where it has nothing to say.

        Raises:
            LostError: what the path names is not there, or not the agent's any more.
            DeniedError: the token is refused.
            RefusedError: the request is.
        """
        while True:
            time.sleep(max(0.0, self._next_s - time.monotonic()))
            try:
                answer = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                self._failed(str(error) or type(error).__name__)
                continue
            if _is_passing(answer):
                self._failed(f"status {answer.status_code}", answer.headers.get("Retry-After"))
                continue
            return self._checked(answer)

    def attempt(self, path: str, body: Mapping[str, Any]) -> None:
        """Tell the service something, at once or not at all, and not more often than is of use.

        Raises:
            LostError: what the path names is not there, or not the agent's any more.
            DeniedError: the token is refused.
            RefusedError: the request is.
        """
        if time.monotonic() < max(self._next_s, self._glanced_s + _GLANCE_EVERY_S):
            return
        self._glanced_s = time.monotonic()
        try:
            answer = self._client.post(path, json=body, timeout=_GLANCE_S)
        except httpx.TransportError as error:
            self._failed(str(error) or type(error).__name__)
            return
        if _is_passing(answer):
            self._failed(f"status {answer.status_code}", answer.headers.get("Retry-After"))
        else:
            self._checked(answer)

    def fetch(self, path: str, into: Path, sha256: str) -> None:
        """A file of the service, whole.

        Raises:
            LostError: there is none.
            DeniedError: the token is refused.
            NasError: what comes is not what the task says.
        """
        while True:
            time.sleep(max(0.0, self._next_s - time.monotonic()))
            digest = hashlib.sha256()
            try:
                with self._client.stream("GET", path) as answer:
                    if answer.status_code == 200:
                        with replacing(into) as temporary, temporary.open("wb") as file:
                            for part in answer.iter_bytes():
                                digest.update(part)
                                file.write(part)
                    else:
                        answer.read()
            except httpx.TransportError as error:
                self._failed(str(error) or type(error).__name__)
                continue
            if _is_passing(answer):
                self._failed(f"status {answer.status_code}", answer.headers.get("Retry-After"))
                continue
            if answer.status_code != 200:
                self._checked(answer)
            self._reached()
            if digest.hexdigest() != sha256:
                raise NasError(f"{path} is not the file that the task asks to be timed")
            return

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
        """Wait longer each time, and not as long as all others that wait."""
        if not self._failures:
            self._say(f"{self.server} does not answer ({why}); trying again")
        self._failures += 1
        # Agents that lost one server together do not come back together; it is no secret when.
        wait_s = min(_PATIENCE_S, 2.0 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        if retry_after is not None and retry_after.isdecimal():
            wait_s = max(wait_s, min(_PATIENCE_S, float(retry_after)))
        self._next_s = time.monotonic() + wait_s

    def _reached(self) -> None:
        if self._failures:
            self._say(f"{self.server} answers again")
        self._failures, self._next_s = 0, 0.0


def _is_passing(answer: httpx.Response) -> bool:
    """Whether the same request may fare better later; what is between may answer in its stead."""
    status = answer.status_code
    return status < 200 or 300 <= status < 400 or status in (408, 429) or status >= 500


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else None
    except ValueError as error:
        raise DeniedError(f"{answer.url} is not answered by a service of searches") from error


def _detail(answer: httpx.Response) -> str:
    """The problem's one line."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
