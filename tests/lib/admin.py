"""ductstream-admin against a server, or against none."""

import json
import os
import signal
import subprocess

from . import child
from .paths import ROOT, program
from .wait import wait_until

SECRET = "hunter2-hidden"


class Admin:
    """Runs commands; the environment has nothing of ours but what is given."""

    def __init__(self, endpoint=None, **environment):
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("DUCTSTREAM_")}
        self.env |= {"LC_ALL": "C.UTF-8", **{k: str(v) for k, v in environment.items()}}
        if endpoint:
            self.env["DUCTSTREAM_ENDPOINT"] = endpoint

    def __call__(self, *words, stdin=None, timeout_s=60, **environment):
        """(exit code, stdout, stderr); the secret is in neither."""
        done = subprocess.run(
            [str(word) for word in (program("ductstream-admin"), *words)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            input=stdin or "",
            env=self.env | {k: str(v) for k, v in environment.items()},
            cwd=ROOT,
        )
        assert SECRET not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    def ok(self, *words, **options):
        """What a command that must succeed printed."""
        code, out, err = self(*words, **options)
        assert code == 0, f"{words}: {code}\n{out}{err}"
        return out

    def json(self, *words, **options):
        return json.loads(self.ok(*words, "--json", **options))

    def refused(self, *words, code=2, **options):
        """The sentence with which a command must be refused."""
        found, out, err = self(*words, **options)
        assert found == code, f"{words}: {found}\n{out}{err}"
        assert err.startswith("ductstream-admin: error: ") and err.count("\n") == 1, err
        return err.removeprefix("ductstream-admin: error: ").rstrip("\n")

    def interrupted(self, *words, when=None, timeout_s=20):
        """Starts a command, sends SIGINT once when() holds, or once it has said a line: (exit code, stderr)."""
        process = child.popen(
            [program("ductstream-admin"), *words], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if when:
            wait_until(when, timeout_s, "the command to be under way")
        else:
            assert process.stdout.readline(), process.communicate()[1]
        wait_until(lambda: process.poll() is not None or child.minds(process.pid, signal.SIGINT), timeout_s, "it to mind a signal")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=timeout_s)
        return process.returncode, err
