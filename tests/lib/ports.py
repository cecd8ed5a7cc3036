"""Ports for servers that have to be told one, and for addresses at which nobody listens."""

import socket

_kept = []


def free_port():
    """A port that nobody else is given while this process lives: a server that reuses addresses, as all of ours do, may listen at it."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", 0))
    _kept.append(taken)
    return taken.getsockname()[1]
