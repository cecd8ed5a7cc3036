"""Where things are: the checkout, its cache, its programs."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / os.environ.get("DUCTSTREAM_CACHE", ".cache")
EXTENSIONS = CACHE / "duckdb" / "extensions"


def program(name="ductstream"):
    """The program under test: DUCT_BIN names a folder; DUCT_ASAN=1 takes the build with sanitizers."""
    if os.environ.get("DUCT_BIN"):
        return Path(os.environ["DUCT_BIN"]) / name
    if os.environ.get("DUCT_ASAN") == "1":
        return ROOT / "build-asan" / "src" / name
    return ROOT / "bin" / name
