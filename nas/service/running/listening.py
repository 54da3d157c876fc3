"""The socket of a service, bound before anything heavy is imported."""

from __future__ import annotations

import socket

from supernet.errors import NasError


def listening(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address; for port 0 the system chooses one.

    It does not listen yet, so clients are refused, and do not wait, until the server starts.

    Raises:
        NasError: the address cannot be bound.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        return found
    except OSError as error:
        found.close()
        raise NasError(
            f"cannot listen at {host} port {port}: {error.strerror}; give another --port, or stop "
            "what listens there"
        ) from error
