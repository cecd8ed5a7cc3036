"""Ports for servers that are told theirs and take it a while later."""

import random
import socket
from contextlib import closing
from pathlib import Path

LEAST = 10000


def _first_of_the_kernels():
    """Where those begin that sockets get which ask for none."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32768


def free_port():
    """Nobody listens on it, and the kernel gives it to nobody: neither to a server of another test nor to the near end of a connection."""
    end, choose = _first_of_the_kernels(), random.SystemRandom()
    for _ in range(100):
        port = choose.randrange(LEAST, end) if end > LEAST + 1000 else 0
        try:
            with closing(socket.create_server(("127.0.0.1", port))) as listener:
                return listener.getsockname()[1]
        except OSError:
            continue
    raise RuntimeError("no port is free")
