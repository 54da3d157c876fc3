"""Ports for servers that tests start in processes of their own."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_CHANCE = random.SystemRandom()


def free_port() -> int:
    """A port of this machine at which nobody listens.

    It is none of those that the system gives to connections, from 32768 on: one of them might be
    taken before the server begins.
    """
    for port in _CHANCE.sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.socket() as found:
            found.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
