"""Where things are: the checkout, its cache, its programs."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / os.environ.get("DUCTSTREAM_CACHE", ".cache")
EXTENSIONS = CACHE / "duckdb" / "extensions"
TSAN = os.environ.get("DUCT_TSAN") == "1"
ASAN = os.environ.get("DUCT_ASAN") == "1" and not TSAN
SANITIZED = ASAN or TSAN  # needs several times the memory


def program(name="ductstream"):
    """The program under test: DUCT_BIN names a folder; DUCT_ASAN=1 or DUCT_TSAN=1 takes a build with sanitizers."""
    if os.environ.get("DUCT_BIN"):
        return Path(os.environ["DUCT_BIN"]) / name
    if SANITIZED:
        return checked(f"src/{name}")
    return ROOT / "bin" / name


def checked(path, variant="tsan" if TSAN else "asan"):
    """A file of a build with sanitizers, built when it is not there: drivers and unit programs always run under some."""
    built = ROOT / f"build-{variant}" / path
    if not built.exists():
        subprocess.run([ROOT / "tools" / "build", variant], check=True)
    return built


def driver_program(name):
    """A C program of tests/system that takes a part of ours through steps."""
    return checked(f"tests/unit/{name}")
