"""Starting children that never outlive us."""

import ctypes
import signal
import subprocess

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def popen(args, death_signal=signal.SIGKILL, **options):
    """subprocess.Popen whose child gets DEATH_SIGNAL when the thread that started it ends, however it ends."""
    return subprocess.Popen(
        [str(arg) for arg in args],
        preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0),
        **options,
    )
