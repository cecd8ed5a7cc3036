"""Commands of the program that end by themselves."""

import json
import subprocess

from .paths import program


def ductstream(*words, timeout_s=60, env=None):
    """(exit code, stdout, stderr)"""
    done = subprocess.run(
        [str(word) for word in (program(), *words)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        env=env,
    )
    return done.returncode, done.stdout, done.stderr


def lines(stdout):
    """The objects that --json printed."""
    return [json.loads(line) for line in stdout.splitlines()]
