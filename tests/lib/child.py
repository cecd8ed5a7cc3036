"""Starting children that never outlive us."""

import shutil
import signal
import subprocess
from pathlib import Path

from .wait import WaitTimeout, wait_until

_SETPRIV = shutil.which("setpriv")

# Signals of ours are as in a terminal, and so are our children's: a job in the background, or under nohup, would hand down that it ignores
# some, but what has a function here is theirs to decide.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


def popen(args, death_signal=signal.SIGKILL, **options):
    """subprocess.Popen whose child gets DEATH_SIGNAL when the thread that started it ends, however it ends.

    Another program asks for that, and becomes the child: a function of ours between fork and exec (preexec_fn) would copy the tables of our
    memory for each child, which took a fifth of all tests' time.
    """
    return subprocess.Popen([_SETPRIV, "--pdeathsig", death_signal.name, "--", *(str(arg) for arg in args)], **options)


def minds(pid, number):
    """Whether a process has come so far that this signal is not just its end; also when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigBlk", "SigCgt"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


class Child:
    """What tests do with a program of ours once it runs: a subclass starts `process`, says `what` it is, and where its stderr goes."""

    what = "the child"
    process = None
    err_path = None

    @property
    def pid(self):
        return self.process.pid

    @property
    def running(self):
        return self.process.poll() is None

    @property
    def code(self):
        """The exit code, None while it runs, -N when signal N ended it."""
        return self.process.poll()

    @property
    def stderr(self):
        return self.err_path.read_text(errors="replace")

    def describe(self):
        return f"exit code {self.code}\n--- stderr\n{self.stderr[-4000:]}"

    def wait(self, timeout_s=120):
        """The exit code; fails when it does not end in time."""
        try:
            return self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.what} did not end in {timeout_s} s\n{self.describe()}") from None

    def let_run(self, seconds):
        """So long, or until it ends: for a kill at a moment that nothing chooses, so no wait for an effect."""
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pass

    def expect(self, code, timeout_s=120):
        """Waits for the end and fails when the exit code is another one; what it said on stderr."""
        found = self.wait(timeout_s)
        assert found == code, f"exit code {found} instead of {code}\n{self.describe()}"
        return self.stderr

    def wait_for(self, condition, timeout_s=60, what="its effect"):
        """Polls condition() while it lives; fails at once when it ends before the condition holds."""

        def holds_or_ended():
            ended = not self.running
            value = condition()
            if ended and not value:
                raise AssertionError(f"{self.what} ended before {what}\n{self.describe()}")
            return value

        try:
            return wait_until(holds_or_ended, timeout_s, what)
        except WaitTimeout as late:
            raise WaitTimeout(f"{late}\n{self.describe()}") from None

    def signal(self, number):
        if self.running:
            self.process.send_signal(number)

    def terminate(self, timeout_s=60):
        """SIGTERM, the orderly stop; returns the exit code."""
        try:
            wait_until(lambda: not self.running or minds(self.pid, signal.SIGTERM), 15)
        except WaitTimeout:
            pass  # a wrapper's, then
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self):
        """kill -9; returns the exit code."""
        self.signal(signal.SIGKILL)
        return self.process.wait(timeout=60)
