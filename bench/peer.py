"""dlt, the tool that copies are compared with: its environment, made on first use, and its command."""

import shutil
import subprocess

from lib.paths import CACHE, EXTENSIONS, ROOT

from measure import ChildFailed

HOME = CACHE / "bench-venv"
REQUIREMENTS = ROOT / "bench" / "requirements.txt"


def versions():
    """Names and versions of what is pinned, for the reader of the figures."""
    pins = [line for line in REQUIREMENTS.read_text().splitlines() if "==" in line]
    return ", ".join(pin.split("[")[0].split("==")[0] + " " + pin.split("==")[1] for pin in pins[:3])


def _python():
    """The interpreter of the environment."""
    stamp = HOME / "requirements.txt"
    if stamp.exists() and stamp.read_text() == REQUIREMENTS.read_text():
        return HOME / "bin" / "python"
    shutil.rmtree(HOME, ignore_errors=True)
    pip = [HOME / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", REQUIREMENTS]
    for command in (["/usr/bin/python3", "-m", "venv", HOME], pip):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise ChildFailed(f"dlt was not to be had: {done.stderr.strip()[-300:]}")
    shutil.copy(REQUIREMENTS, stamp)
    return HOME / "bin" / "python"


def command(url, home, script="dlt_copy.py"):
    """Copies table t of the database at URL into a lake in folder HOME; dlt_rest.py: the pages of the API at URL."""
    return [_python(), ROOT / "bench" / script, url, home / "lake.sqlite", home / "data", EXTENSIONS]
