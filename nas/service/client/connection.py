"""One server as a client reaches it: its JSON, its streams, and its failures as one line each."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from supernet.errors import NasError, printable

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, *[30.0] * 18)
"""Between attempts to go on with what was under way: ten minutes in all."""

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # a stream of events says something every 15 s
_LONGEST_WAIT_S = 60.0
_AWAY = (429, 502, 503, 504)
_JITTER = random.SystemRandom()


class RefusedError(NasError):
    """The server's refusal, as the one line that it gives.

    Args:
        status: of HTTP.
    """

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


class AwayError(NasError):
    """The server does not answer now, and may later.

    Args:
        retry_s: after which it asks to be tried again.
    """

    def __init__(self, line: str, retry_s: float = 0.0) -> None:
        super().__init__(line)
        self.retry_s = retry_s


class Patience:
    """Waits longer from one failure to the next, and at last gives up."""

    def __init__(self, waits_s: Sequence[float]) -> None:
        self._waits_s, self._failures = waits_s, 0

    def renew(self) -> None:
        """After a success, begin anew."""
        self._failures = 0

    def wait(self, error: AwayError) -> None:
        """Before the next attempt; after the last one, raise ``error``."""
        if self._failures == len(self._waits_s):
            raise error
        # Those who lost one server together do not come back together.
        wait_s = self._waits_s[self._failures] * _JITTER.uniform(0.5, 1.0)
        time.sleep(max(wait_s, min(error.retry_s, _LONGEST_WAIT_S)))
        self._failures += 1


class Connection:
    """To one server.

    Args:
        url: such as ``https://nas.example.org``.
        token: where the service asks for one.
        waits_s: between attempts to go on with what was interrupted.

    Raises:
        NasError: an address that is not of HTTP, or a token that no header can hold.
    """

    def __init__(self, url: str, token: str | None, waits_s: Sequence[float]) -> None:
        if not url.startswith(("http://", "https://")):
            raise NasError(f"server must be http://... or https://..., not {url!r}")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise NasError("the token must be of ASCII letters, digits and signs, in one line")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT)
        except httpx.InvalidURL as error:
            raise NasError(f"server {url!r} is not well-formed: {error}") from error
        self.url = url
        self._waits_s = tuple(waits_s)

    def close(self) -> None:
        """Give back its sockets."""
        self._http.close()

    def patience(self) -> Patience:
        """With a server that goes away while it is needed."""
        return Patience(self._waits_s)

    def json(self, method: str, path: str, *, attempts: int = 3, **options: Any) -> Any:
        """The JSON that a request is answered with.

        Args:
            attempts: more than one for what may safely be sent again.
        """
        patience = Patience(self._waits_s[: attempts - 1])
        while True:
            try:
                with self.response(method, path, **options) as response:
                    response.read()
                    return response.json()
            except AwayError as error:
                patience.wait(error)
            except ValueError as error:
                raise NasError(f"server {self.url} answers no JSON: is it this service?") from error

    @contextmanager
    def response(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """A good response, its body not read yet.

        Raises:
            AwayError: the server cannot be reached, is lost on the way, or is too busy.
            RefusedError: it refuses.
        """
        try:
            with self._http.stream(method, path, **options) as response:
                if not response.is_success:
                    response.read()
                    raise self._error(response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise AwayError(
                f"server {self.url} cannot be reached ({_line(error)}): start one with `nas serve`,"
                " or name another by --server or NAS_SERVER"
            ) from error
        except httpx.TransportError as error:
            raise AwayError(f"connection to {self.url} is lost: {_line(error)}") from error

    def _error(self, response: httpx.Response) -> NasError:
        status = response.status_code
        line = _detail(response) or f"server {self.url} answers {status} {response.reason_phrase}"
        if status in _AWAY:
            asked = response.headers.get("Retry-After", "")
            return AwayError(line, float(asked) if asked.isdecimal() else 0.0)
        if status == httpx.codes.UNAUTHORIZED:
            line += ": give one by --token-file, NAS_TOKEN or NAS_TOKEN_FILE"
        return RefusedError(line, status)


def _detail(response: httpx.Response) -> str | None:
    """The line of a problem; None where the response is none of ours."""
    if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        return None
    try:
        return one_line(str(response.json()["detail"]))
    except (ValueError, KeyError, TypeError):
        return None


def one_line(text: str) -> str:
    """One line without what would command a terminal, at most 500 characters."""
    return printable(text)[:500]


def _line(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__
