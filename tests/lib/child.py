"""Starting children that never outlive us."""

import ctypes
import signal
import subprocess

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def popen(args, death_signal=signal.SIGKILL, **options):
    """subprocess.Popen whose child gets DEATH_SIGNAL when the thread that started it ends, however it ends.

    Its signals are as in a terminal: a job in the background, or under nohup, would hand down that it ignores some.
    """

    def prepare():
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen([str(arg) for arg in args], preexec_fn=prepare, **options)
