"""The socket of a service, taken before anything heavy is loaded."""

from __future__ import annotations

import socket

from supernet.errors import NasError


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to an address; port 0 is the system's choice.

    Whoever serves has it listen: until then clients are refused, and wait for nothing.

    Raises:
        NasError: the address cannot be had.
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
