"""A connection to a service: its JSON, its streams, and its failures as one line each."""

from __future__ import annotations

import random
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx2

from supernet.errors import NasError, printable

_LONGEST_WAIT_S = 60.0
_JITTER = random.SystemRandom()


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


class RefusedError(NasError):
    """The service refuses a request, and would refuse it again.

    Args:
        status: of HTTP.
    """

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


class AwayError(NasError):
    """The service does not answer now, and may later.

    Args:
        retry_s: the service asks to be left alone for so long.
    """

    def __init__(self, line: str, retry_s: float = 0.0) -> None:
        super().__init__(line)
        self.retry_s = retry_s


class UnreachableError(AwayError):
    """Nothing listens at the service's address."""


class Patience:
    """Waits longer from one failure to the next, and at last gives up.

    Args:
        waits_s: between attempts.
        forever: whether to go on with the last of these.
    """

    def __init__(self, waits_s: Sequence[float], *, forever: bool = False) -> None:
        self._waits_s, self._forever = waits_s, forever
        self.failures, self.until_s = 0, 0.0

    def renew(self) -> None:
        """Begin anew after a success."""
        self.failures, self.until_s = 0, 0.0

    def fail(self, error: AwayError) -> None:
        """Count a failure and set the time of the next attempt; after the last, raise ``error``."""
        if self.failures >= len(self._waits_s) and not self._forever:
            raise error
        wait_s = self._waits_s[min(self.failures, len(self._waits_s) - 1)]
        # Clients that lost one service together do not come back together.
        wait_s = max(wait_s * _JITTER.uniform(0.5, 1.0), min(error.retry_s, _LONGEST_WAIT_S))
        self.failures, self.until_s = self.failures + 1, time.monotonic() + wait_s

    def wait(self) -> None:
        """Sleep until the next attempt."""
        time.sleep(max(0.0, self.until_s - time.monotonic()))


class Connection:
    """A connection to one service.

    Args:
        url: such as ``https://nas.example.org``.
        token: where the service asks for one.
        timeout_s: of an answer, or of the next part of a stream.
        away: statuses after which the same request may fare better later.

    Raises:
        NasError: an address that is not of HTTP, or a token that no header can hold.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        timeout_s: float = 60.0,
        away: Container[int] = (429, 502, 503, 504),
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise NasError(f"server must be an address such as https://host, not {url!r}")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise NasError("the token must be of ASCII letters, digits and signs, in one line")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        timeout = httpx2.Timeout(timeout_s, connect=10.0)
        try:
            self._http = httpx2.Client(base_url=url, headers=headers, timeout=timeout)
        except httpx2.InvalidURL as error:
            raise NasError(f"server {url!r} is not well-formed: {error}") from error
        self.url, self._away = url, away

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that answers a request; None where the answer is empty.

        Raises:
            AwayError, RefusedError: as :meth:`response`; refused is an answer that is no JSON, too.
        """
        with self.response(method, path, **options) as response:
            content = response.read()
            try:
                return response.json() if content else None
            except ValueError as error:
                line = f"server {self.url} answers no JSON: is it this service?"
                raise RefusedError(line, response.status_code) from error

    @contextmanager
    def response(self, method: str, path: str, **options: Any) -> Iterator[httpx2.Response]:
        """A good response, its body not read yet.

        Args:
            options: as ``httpx2.Client.stream`` takes them.

        Raises:
            AwayError: the service cannot be reached, is lost on the way, or is too busy.
            RefusedError: it refuses.
        """
        try:
            with self._http.stream(method, path, **options) as response:
                if not response.is_success:
                    response.read()
                    raise self._error(response)
                yield response
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            line = f"server {self.url} cannot be reached ({_line(error)})"
            raise UnreachableError(line) from error
        except httpx2.TransportError as error:
            raise AwayError(f"connection to {self.url} is lost: {_line(error)}") from error

    def _error(self, response: httpx2.Response) -> NasError:
        status = response.status_code
        line = _detail(response) or f"server {self.url} answers {status} {response.reason_phrase}"
        if status in self._away:
            asked = response.headers.get("Retry-After", "")
            return AwayError(line, float(asked) if asked.isdecimal() else 0.0)
        return RefusedError(line, status)


def _detail(response: httpx2.Response) -> str | None:
    """The line of a problem (RFC 9457); None where the response is none."""
    try:
        return one_line(str(response.json()["detail"]))
    except (ValueError, KeyError, TypeError):
        return None


def one_line(text: str) -> str:
    """One line without what would command a terminal, at most 500 characters."""
    return printable(text)[:500]


def _line(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__
