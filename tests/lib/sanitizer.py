"""What the sanitizers say: programs built with one write their reports into a folder, and the test that caused one fails.

A process whose end nobody waits for (a server that is killed, a worker of a worker) is heard this way, too.
"""

import os

from .paths import ROOT

RACES, LEAKS = ROOT / "tests" / "tsan.supp", ROOT / "tests" / "lsan.supp"


def listen(folder):
    """Sets the environment that every child inherits. What the caller's environment says stays, and comes last."""
    own = {
        "ASAN_OPTIONS": f"log_path={folder}/report",
        "LSAN_OPTIONS": f"suppressions={LEAKS}:print_suppressions=0",
        "UBSAN_OPTIONS": f"log_path={folder}/report:print_stacktrace=1",
        "TSAN_OPTIONS": f"log_path={folder}/report:suppressions={RACES}:second_deadlock_stack=1",
    }
    for name, value in own.items():
        os.environ[name] = ":".join(filter(None, (value, os.environ.get(name))))


def options(**asan):
    """The environment of a child with other options of the address sanitizer: {**os.environ, **options(detect_leaks=0)}."""
    return {"ASAN_OPTIONS": ":".join([os.environ.get("ASAN_OPTIONS", ""), *(f"{k}={v}" for k, v in asan.items())]).strip(":")}


def take(folder):
    """The reports of until now, as one text; they are gone from the folder."""
    texts = []
    for path in sorted(folder.glob("report.*")):
        texts.append(path.read_text(errors="replace"))
        path.unlink()
    return "\n".join(texts)
