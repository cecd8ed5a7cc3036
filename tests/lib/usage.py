"""What a running process uses: its anonymous memory at the peak, its processor time, its room on disk in files without a name."""

import os
import threading
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def nameless_files(pid, beginning):
    """Sizes of the files that only the process has, and whose path began like that: spools, for example."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(fd).startswith(str(beginning)):
                found.append(os.stat(fd).st_size)
        except FileNotFoundError:
            continue
    return found


def all_threads_are(pid, state):
    """Its threads are all in that state of /proc: S sleeps, T is stopped."""
    try:
        states = [stat.read_text().rsplit(")", 1)[1].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):  # a thread has ended meanwhile
        return False
    return set(states) == {state}


def all_threads_sleep(pid):
    return all_threads_are(pid, "S")


class Usage(threading.Thread):
    """Polls a process until it ends or stop() is called; also its files without a name whose path began with SPOOL."""

    def __init__(self, pid, spool=None):
        super().__init__(daemon=True)
        self.pid = pid
        self.spool = spool
        self.peak_bytes = 0
        self.peak_spool_bytes = 0
        self.cpu_s = 0.0
        self._ended = threading.Event()
        self.start()

    def run(self):
        while not self._ended.wait(0.02):
            try:
                self._look()
            except (FileNotFoundError, ProcessLookupError):
                return

    def _look(self):
        with open(f"/proc/{self.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        if "RssAnon" in fields:
            anonymous = int(fields["RssAnon"].split()[0]) + int(fields["RssShmem"].split()[0])
            self.peak_bytes = max(self.peak_bytes, anonymous << 10)
        if self.spool:
            self.peak_spool_bytes = max(self.peak_spool_bytes, sum(nameless_files(self.pid, self.spool)))
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        self.cpu_s = max(self.cpu_s, (int(fields[11]) + int(fields[12])) / TICKS)

    def stop(self):
        """Ends; returns the peak of the anonymous memory in bytes."""
        self._ended.set()
        self.join()
        assert self.peak_bytes > 0
        return self.peak_bytes
