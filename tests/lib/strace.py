"""System calls of a run, in the order in which they happened.

    trace = Trace(tmp_path / "trace", "openat,fsync,sendto")
    run = flow.start(wrapper=trace.wrapper)
    ...
    for call in trace.calls(): call.name, call.path, call.data, call.began, call.ended
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"^(\d+) +(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_RESULT = re.compile(r"^(.*)\) += (-?\d+|\?)(?:<.*>)?(?: .*)?$")
_FD = re.compile(r"^(AT_FDCWD|\d+)(?:<(.*?)>)?(?:,|$)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FRAME = re.compile(r"^ > (\S+?)\(")


@dataclass
class Call:
    """began and ended number the events of the whole trace; a call that did not end has ended None."""

    thread: str
    name: str
    text: str
    began: int
    ended: int | None = None
    result: int | None = None
    frames: tuple = ()  # object files of the stack, the innermost first (with stacks=True)

    @property
    def fd(self):
        """What the first argument stands for: a path, or a socket's number."""
        match = _FD.match(self.text)
        if not match:
            return None
        name = match[2] or match[1]
        return bytes.fromhex(name.replace("\\x", "")).decode() if name.startswith("\\x") else name

    @property
    def data(self):
        """The first quoted argument, as bytes."""
        match = _TEXT.search(self.text)
        return bytes.fromhex(match[1].replace("\\x", "")) if match else b""

    @property
    def path(self):
        """The first quoted argument as a path, absolute."""
        return self.data.decode()


def available():
    return shutil.which("strace") is not None


class Trace:
    def __init__(self, path, calls, stacks=False):
        self.path = Path(path)
        flags = ["-f", "-y", "-xx", "-s", "1000000", "-qq", "-o", self.path, "-e", f"trace={calls}", "-e", "signal=none"]
        self.wrapper = ("strace", *flags, *(["-k"] if stacks else []))

    def calls(self):
        open_calls, found, last = {}, [], None
        with open(self.path, errors="replace") as lines:
            for number, line in enumerate(lines):
                line = line.rstrip("\n")
                frame = _FRAME.match(line)
                if frame and last:
                    last.frames += (frame[1],)
                    continue
                match = _LINE.match(line)
                if not match:
                    continue
                thread, rest = match.groups()
                resumed = _RESUMED.match(rest)
                if resumed:
                    call = open_calls.pop((thread, resumed[1]), None)
                    if call is None:
                        continue
                    call.text += resumed[2]
                else:
                    begun = _CALL.match(rest)
                    if not begun:
                        continue
                    call = Call(thread, begun[1], begun[2], number)
                    found.append(call)
                    if call.text.endswith("<unfinished ...>"):
                        call.text = call.text.removesuffix("<unfinished ...>").rstrip()
                        open_calls[thread, call.name] = call
                        continue
                result = _RESULT.match(call.text)
                if result:
                    call.text = result[1]
                    call.result = int(result[2]) if result[2] != "?" else None
                    call.ended = number
                last = call
        return found
