"""Servers whose CPU time is known, and children measured from their start to their end."""

import os
import socket
import subprocess
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lib import child
from lib.pg import Postgres
from lib.wait import wait_until

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.05


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server(Postgres):
    """A private Postgres on a unix socket and on TCP, without background work that would blur a measurement."""

    SETTINGS = {
        "listen_addresses": "'127.0.0.1'",
        "shared_buffers": "512MB",
        "max_wal_size": "64GB",
        "checkpoint_timeout": "1h",
        "autovacuum": "off",
        "max_wal_senders": "20",
        "max_replication_slots": "20",
    }

    def __init__(self, fsync=True, **settings):
        self.port = _free_port()
        super().__init__(fsync=fsync, settings={**self.SETTINGS, **settings, "port": str(self.port)})
        with open(self.data / "pg_hba.conf", "a") as hba:
            hba.write("host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n")

    def dsn(self, db="postgres", tcp=False):
        host = "127.0.0.1" if tcp else self.folder
        return f"host={host} port={self.port} dbname={db} user=postgres"

    def url(self, db):
        return f"postgresql://postgres@127.0.0.1:{self.port}/{db}"

    def processes(self):
        return set(self._children())

    def ended_cpu_s(self):
        """CPU time of all server processes that have ended. Sessions that live on are not in it."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[13]) + int(fields[14])) * TICK_S


def machine_busy_s():
    """CPU-seconds of the whole machine that were not idle, and those that a host took away."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq) * TICK_S, steal * TICK_S


def load_average():
    return os.getloadavg()[0]


def wait_for_quiet(limit_s, cores=0.15, seconds=1.5):
    """Waits, at most LIMIT_S, until less than so many cores are busy. Returns whether they are."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        busy, steal = machine_busy_s()
        time.sleep(seconds)
        busy_after, steal_after = machine_busy_s()
        if busy_after + steal_after - busy - steal < cores * seconds:
            return True
    return False


@dataclass
class Figures:
    """One child: seconds of wall time and of CPU, and what the machine did beside it."""

    wall_s: float
    cpu_s: float
    server_cpu_s: float
    catalog_cpu_s: float
    peak_anon_mib: float
    peak_rss_mib: float
    load: float  # load average before
    other_cores: float  # cores that were busy with something else
    steal_cores: float  # cores that the host gave to others
    read_mib: float = 0.0  # what the child read from files, cached or not
    index_bytes: int = 0  # of our key index on disk

    def as_dict(self):
        return asdict(self)


class ChildFailed(Exception):
    pass


def _family(pid):
    """A process and what it has started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(each for child_pid in children for each in _family(int(child_pid)))]


class _MemorySampler(threading.Thread):
    """Anonymous memory has no high-water mark of its own in /proc, so it is looked at every 50 ms."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self._pid = pid
        self._end = threading.Event()
        self.peak_anon_kib = 0
        self.peak_rss_kib = 0

    def run(self):
        while not self._end.wait(SAMPLE_S):
            found = [self._memory(pid) for pid in _family(self._pid)]
            self.peak_anon_kib = max(self.peak_anon_kib, sum(anon for anon, _ in found))
            self.peak_rss_kib = max(self.peak_rss_kib, sum(rss for _, rss in found))

    @staticmethod
    def _memory(pid):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return 0, 0
        found = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem", "VmRSS"))}
        return found.get("RssAnon", 0) + found.get("RssShmem", 0), found.get("VmRSS", 0)

    def stop(self):
        self._end.set()
        self.join()


def _wait(process, timeout_s):
    """Waits for the end; returns exit code, resource usage (with that of its children) and the bytes it read from files."""
    late = threading.Timer(timeout_s, process.kill)
    late.start()
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        read = int(Path(f"/proc/{process.pid}/io").read_text().split()[1])
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        late.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage, read


def run(command, source, catalog=None, folder=None, timeout_s=1800, env=None):
    """Runs COMMAND and measures it. Returns (Figures, its stdout). SOURCE and CATALOG are Servers."""
    servers = [server for server in (source, catalog) if server]
    os.sync()
    before = [(server, server.processes(), server.ended_cpu_s()) for server in servers]
    load = load_average()
    busy, steal = machine_busy_s()
    start = time.monotonic()
    with open(folder / "stdout", "w+") as out, open(folder / "stderr", "w+") as err:
        process = child.popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder, env={**os.environ, **(env or {})}
        )
        sampler = _MemorySampler(process.pid)
        sampler.start()
        code, usage, read = _wait(process, timeout_s)
        wall = time.monotonic() - start
        sampler.stop()
    for server, processes, _ in before:
        wait_until(lambda: server.processes() <= processes, 60, "the server's sessions to end")
    elapsed = time.monotonic() - start
    busy_after, steal_after = machine_busy_s()
    server_cpu = [server.ended_cpu_s() - cpu for server, _, cpu in before] + [0.0]
    cpu = usage.ru_utime + usage.ru_stime
    if code != 0:
        why = (folder / "stderr").read_text(errors="replace").strip()[-1500:]
        raise ChildFailed(f"{Path(command[0]).name} ended with {code} after {wall:.1f} s: {why}")
    figures = Figures(
        wall_s=wall,
        cpu_s=cpu,
        server_cpu_s=server_cpu[0],
        catalog_cpu_s=server_cpu[1],
        peak_anon_mib=sampler.peak_anon_kib / 1024,
        peak_rss_mib=sampler.peak_rss_kib / 1024,
        load=load,
        other_cores=max(0.0, (busy_after - busy - cpu - sum(server_cpu)) / elapsed),
        steal_cores=(steal_after - steal) / elapsed,
        read_mib=read / 2**20,
    )
    return figures, (folder / "stdout").read_text(errors="replace")
