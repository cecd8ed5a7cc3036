"""A private Postgres server: own folder, unix socket only, set up for logical replication."""

import atexit
import contextlib
import functools
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

from . import child
from .paths import CACHE
from .wait import wait_until

SUPERUSER = "postgres"
SETTINGS = {
    "listen_addresses": "''",
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@functools.cache
def _executable(folder):
    """The folder, or a copy when user postgres cannot come to where it is."""
    if os.geteuid() != 0 or all(parent.stat().st_mode & 1 for parent in folder.resolve().parents):
        return folder
    temp = Path(tempfile.mkdtemp(prefix="duct-servers-"))
    atexit.register(shutil.rmtree, temp, ignore_errors=True)
    temp.chmod(0o755)
    shutil.copytree(folder, temp / folder.name, symlinks=True)
    return temp / folder.name


def programs_folder(version=None):
    """The server programs: of Debian's Postgres 15, or what DUCT_PG_BIN names; of another version, what tools/setup got."""
    if version is None:
        folder = Path(os.environ.get("DUCT_PG_BIN", "/usr/lib/postgresql/15/bin"))
    else:
        folder = _executable(CACHE / "servers" / str(version)) / "bin"
    if not (folder / "postgres").exists():
        raise RuntimeError(f"{folder}/postgres is not there: run tools/setup --servers")
    return folder


def _identity():
    """Popen options that make a child run as user postgres when we are root (Postgres refuses root)."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _give_to_server(folder):
    identity = _identity()
    if identity:
        os.chown(folder, identity["user"], identity["group"])


def _initdb(programs, data):
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]
        + ["--locale=C.UTF-8", "--no-sync"],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
        **_identity(),
    )


def _template(programs):
    """A data folder fresh from initdb, made once per version and copied by every server."""
    version = subprocess.check_output([programs / "postgres", "--version"], text=True).split()[2]
    template = CACHE / f"postgres-{version}-{'postgres' if os.geteuid() == 0 else os.geteuid()}"
    if template.exists():
        return template
    temp = Path(tempfile.mkdtemp(prefix="duct-initdb-"))
    try:
        _give_to_server(temp)
        _initdb(programs, temp / "data")
        CACHE.mkdir(parents=True, exist_ok=True)
        ready = template.with_name(f"{template.name}.{os.getpid()}")
        subprocess.run(["cp", "-a", temp / "data", ready], check=True)
        try:
            ready.rename(template)
        except OSError:  # another process was first
            shutil.rmtree(ready)
    finally:
        shutil.rmtree(temp)
    return template


MEMORY = Path("/dev/shm")
ROOM = 6 << 30  # the servers of a whole run have had 2 GiB at most


@functools.cache
def _home():
    """Where servers are: in memory if there is room, else where TMPDIR says. A file system on a disk may look long for the number of a new
    file when many were deleted lately, and CREATE DATABASE makes 300: 0.1 s each, a fifth of all tests' time."""
    if os.environ.get("TMPDIR") or os.environ.get("DUCT_LONG") == "1" or not os.access(MEMORY, os.W_OK):
        return None
    for left in MEMORY.glob("duct-pg-*-*"):  # of a run that was killed
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    place, limit = os.statvfs(MEMORY), Path("/sys/fs/cgroup/memory.max")
    found = re.search(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text())
    room = [place.f_bavail * place.f_frsize, int(found[1]) * 1024 // 2]
    with contextlib.suppress(OSError, ValueError):  # no group, or "max"
        room.append(int(limit.read_text()) // 2)
    return MEMORY if min(room) >= ROOM else None


def _copy_template(programs, data):
    """A cache that was copied from elsewhere does not give the template the owner that Postgres insists on."""
    template = _template(programs)
    owner = _identity().get("user", os.geteuid())
    if os.geteuid() != 0 and template.stat().st_uid != owner:
        return _initdb(programs, data)
    subprocess.run(["cp", "-a", template, data], check=True)
    if data.stat().st_uid != owner:
        data.chmod(0o700)
        subprocess.run(["chown", "-R", f"{owner}:{_identity()['group']}", data], check=True)


def _state(pid):
    """The letter of /proc; None without such a process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat.rsplit(")", 1)[1].split()[0]


def _lives(pid):
    return _state(pid) not in (None, "Z")


class Postgres:
    """A server in a folder of its own. Start it with start() or `with Postgres() as pg`.

    fsync     True makes a kill of the machine survivable; a kill of the server is survivable without
    settings  more lines for postgresql.conf, as a dict
    version   another than what the tests run on: one that tools/setup --servers got
    fresh     True takes initdb instead of a copy, so that the system identifier is its own
    """

    def __init__(self, fsync=False, settings=None, version=None, fresh=False):
        self._programs = programs_folder(version)
        self.folder = Path(tempfile.mkdtemp(prefix=f"duct-pg-{os.getpid()}-", dir=_home()))
        self.data = self.folder / "data"
        self.log_path = self.folder / "log"
        self._process = None
        self._connections = {}
        _give_to_server(self.folder)
        if fresh:
            _initdb(self._programs, self.data)
        else:
            _copy_template(self._programs, self.data)
        lines = {
            **SETTINGS,
            "unix_socket_directories": f"'{self.folder}'",
            "fsync": "on" if fsync else "off",
            **(settings or {}),
        }
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in lines.items())
        with open(self.data / "pg_hba.conf", "w") as hba:
            hba.write("local all all trust\nlocal replication all trust\n")

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    # --- life ---

    @property
    def pid(self):
        return self._process.pid

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    def start(self):
        with open(self.log_path, "ab") as log:
            self._process = child.popen(
                [self._programs / "postgres", "-D", self.data],
                death_signal=signal.SIGQUIT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **_identity(),
            )
        wait_until(self._ready, 60, "Postgres to accept connections")
        return self

    def _ready(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"Postgres ended at its start:\n{self.log()[-2000:]}")
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def stop(self, immediate=False):
        """An orderly stop; immediate=True leaves recovery to the next start, as a crash does."""
        self._forget_connections()
        if self.running:
            self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
            self._process.wait(timeout=60)

    def kill(self):
        """kill -9 of the server and of every process of it."""
        self._process.send_signal(signal.SIGSTOP)  # else it begins one more behind our look
        wait_until(lambda: _state(self.pid) == "T", 30, "the server to stand still")
        children = self._children()
        self._process.kill()
        self._process.wait(timeout=60)
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: not any(map(_lives, children)), 30, "the server's processes to end")
        self._forget_connections()

    @contextlib.contextmanager
    def frozen(self):
        """It stands still: connections stay, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: _state(self.pid) == "T", 30, "the server to stand still")
        stopped = [*self._children(), self.pid]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    def _children(self):
        listing = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in listing.split()]

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        """Stops the server and removes its folder."""
        self.stop(immediate=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        return self.log_path.read_text(errors="replace")

    # --- use ---

    def dsn(self, db="postgres"):
        return f"host={self.folder} dbname={db} user={SUPERUSER}"

    def connect(self, db="postgres", **options):
        """A connection of its own, in autocommit unless told otherwise; the caller closes it."""
        return psycopg.connect(self.dsn(db), **{"autocommit": True, **options})

    def _connection(self, db):
        known = self._connections.get(db)
        if known is None or known.closed:
            known = self._connections[db] = self.connect(db)
        return known

    def forget(self, db):
        """Closes the connection that sql() and query() use for a database."""
        known = self._connections.pop(db, None)
        if known is not None:
            known.close()

    def _forget_connections(self):
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def sql(self, text, db="postgres"):
        """Runs one or more statements, each in autocommit when alone, as one transaction when several."""
        self._connection(db).execute(text)

    def query(self, text, db="postgres"):
        """The rows of one query, as a list of tuples."""
        return self._connection(db).execute(text).fetchall()

    def value(self, text, db="postgres"):
        """The first column of the first row."""
        return self.query(text, db)[0][0]

    def database(self, name):
        """Creates the database when it is not there; returns a Database."""
        if not self.query(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            self.sql(f'CREATE DATABASE "{name}"')
        return Database(self, name)

    def drop_slots(self, name):
        """Drops a database's slots; the flow that used them must have ended."""
        slots = f"SELECT slot_name FROM pg_replication_slots WHERE database = '{name}'"
        self.sql(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
            f"WHERE database = '{name}' AND active_pid IS NOT NULL"
        )
        wait_until(lambda: not self.query(slots + " AND active"), 30, f"the slots of {name} to be released")
        for (slot,) in self.query(slots):
            self.query(f"SELECT pg_drop_replication_slot('{slot}')")

    def drop_database(self, name):
        """Drops the database with its slots; the flow that used them must have ended."""
        self.forget(name)
        self.drop_slots(name)
        self.sql(f'DROP DATABASE "{name}" WITH (FORCE)')

    @property
    def version(self):
        """The major version."""
        return int(self.value("SHOW server_version_num")) // 10000

    def needs(self, version, what):
        """Skips the test on an older server, which lacks WHAT."""
        if self.version < version:
            pytest.skip(f"Postgres {self.version} has no {what}")

    def lsn(self):
        """The server's current write position, as text."""
        return self.value("SELECT pg_current_wal_lsn()::text")

    def confirmed_lsn(self, slot):
        """What the slot's reader has confirmed, as text; None without such a slot."""
        rows = self.query(f"SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{slot}'")
        return rows[0][0] if rows else None

    def wait_confirmed(self, slot, lsn, timeout_s=30):
        """Waits until the slot's reader has confirmed LSN."""
        reached = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{slot}' AND confirmed_flush_lsn >= '{lsn}'"
        wait_until(lambda: self.query(reached), timeout_s, f"slot {slot} to confirm {lsn}")


class Database:
    """One database of a Postgres server: the same methods without the name."""

    def __init__(self, server, name):
        self.server = server
        self.name = name

    @property
    def dsn(self):
        return self.server.dsn(self.name)

    @property
    def version(self):
        return self.server.version

    def needs(self, version, what):
        self.server.needs(version, what)

    def connect(self, **options):
        return self.server.connect(self.name, **options)

    def sql(self, text):
        self.server.sql(text, self.name)

    def query(self, text):
        return self.server.query(text, self.name)

    def value(self, text):
        return self.server.value(text, self.name)

    def drop(self):
        self.server.drop_database(self.name)

    def drop_slots(self):
        """Drops its slots and closes the connection that sql() and query() use."""
        self.server.drop_slots(self.name)
        self.server.forget(self.name)


class Databases:
    """Databases of one server, emptied and handed out again: making and dropping one costs more than most tests do."""

    EMPTY = """
        DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT pubname FROM pg_publication LOOP EXECUTE format('DROP PUBLICATION %I', name); END LOOP;
        FOR name IN SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' LOOP
            EXECUTE format('DROP EXTENSION IF EXISTS %I CASCADE', name); END LOOP;
        FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
            EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP;
        END $$;
        CREATE SCHEMA public; GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC
    """

    def __init__(self, server):
        self._server = server
        self._free = []
        self._made = 0

    def take(self):
        if self._free:
            return self._free.pop()
        self._made += 1
        return self._server.database(f"test_{self._made}")

    def give_back(self, database):
        database.drop_slots()
        self._server.query(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'"
        )
        database.sql(self.EMPTY)
        self._free.append(database)
