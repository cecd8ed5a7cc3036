"""A limit of memory around a command: by a cgroup where we may make one, else by what stands in for it (issue 4, point 3)."""

import atexit
import contextlib
import os
import shutil
import subprocess
from pathlib import Path

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


class Limit:
    """How a command is limited. `wrapper` goes before it; `how` says what the limit is, for the reader of the figures."""

    def __init__(self, text):
        self.bytes = None if text in ("", "none") else parse(text)
        self.wrapper, self.how = [], "none"
        if self.bytes:
            self.wrapper, self.how = _scope(text, self.bytes) or _own_group(text, self.bytes) or _stand_in(text, self.bytes)


def parse(text):
    """512M as bytes."""
    if text and text[-1].upper() in UNITS and text[:-1].isdigit():
        return int(text[:-1]) * UNITS[text[-1].upper()]
    raise ValueError(f'"{text}" is no size: write it as 512M')


def _scope(text, size):
    """systemd makes the cgroup (version 2, no swap) and removes it; None where it cannot."""
    if Path("/proc/1/comm").read_text().strip() != "systemd" or not shutil.which("systemd-run"):
        return None
    user = [] if os.geteuid() == 0 else ["--user"]
    command = ["systemd-run", *user, "--scope", "--quiet", "--collect", "-p", f"MemoryMax={size}", "-p", "MemorySwapMax=0", "--"]
    probe = subprocess.run([*command, "cat", "/proc/self/cgroup"], capture_output=True, text=True)
    if probe.returncode != 0 or not probe.stdout.startswith("0::"):
        return None
    return command, f"{text} by a cgroup"


def _own_group(text, size, mounted=Path("/sys/fs/cgroup"), groups=Path("/proc/self/cgroup")):
    """Without systemd: a group of ours below the one we are in (version 2), where that may have some; None where it may not."""
    at = [line[3:] for line in groups.read_text().splitlines() if line.startswith("0::/")]
    group = mounted / at[0].strip("/") / f"ductstream-limit-{os.getpid()}-{size}" if at else mounted
    try:
        if "memory" not in (group.parent / "cgroup.subtree_control").read_text().split():
            return None
        group.mkdir(exist_ok=True)
        atexit.register(_remove, group)
        (group / "memory.max").write_text(str(size))
        if (group / "memory.swap.max").exists():
            (group / "memory.swap.max").write_text("0")
    except OSError:
        return None
    return ["sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh"], f"{text} by a cgroup"


def _remove(group):
    with contextlib.suppress(OSError):
        group.rmdir()


def _stand_in(text, size):
    """RLIMIT_DATA counts all private memory that may be written, touched or not; it does not count the page cache."""
    return ["prlimit", f"--data={size}"], f"{text} by RLIMIT_DATA in place of a cgroup, which this machine does not give"
