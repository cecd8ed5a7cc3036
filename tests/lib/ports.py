"""Ports of loopback for programs that have to be told one."""

import random
import socket
from pathlib import Path

LEAST = 10000


def free_port():
    """One that nobody listens at. It is below those that the system gives out by itself: no connection and no other listener
    gets it before it is used, nor while a server is away that is to come back at it."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(100 if low > LEAST + 1000 else 0):
        port = random.SystemRandom().randrange(LEAST, low)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
