#!/usr/bin/env python3
"""The steps of ./check, and their sum. Each step adds to a Tally; a step that runs nothing where it should is a failure."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import generated
import layers
from lib.paths import ROOT

LONG = os.environ.get("DUCT_LONG") == "1"
FUZZ_SECONDS = int(os.environ.get("DUCT_FUZZ_SECONDS", "60"))
PYTEST_FOLDERS = ("fault", "system", "conform")  # long files first: the end of the run waits for the last one
ALONE = "alone or long"
# What has the threads of the server and of workers at work: run under the sanitizers in the long check.
SERVICE_TESTS = [
    f"system/test_{name}.py"
    for name in ("grpc_server", "grpc_frames", "http", "flow_service", "run_service", "stream_service", "pgstream", "fan_out")
]


class Tally:
    """What passed, failed and was skipped so far; failures are printed when they happen."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = Counter()

    def ok(self, count=1):
        self.passed += count

    def fail(self, name, detail=""):
        self.failed += 1
        print(f"FAILED {name}", *(f"    {line}" for line in detail.rstrip().splitlines()), sep="\n", flush=True)

    def skip(self, reason):
        self.skipped[reason] += 1

    def check(self, name, problems):
        """One test that passes when there are no problems."""
        if problems:
            self.fail(name, "\n".join(problems))
        else:
            self.ok()


def rules(tally):
    """The rules of the source tree."""
    for name, lines in layers.breaches().items():
        tally.check(f"layers: {name}", lines)
    lint = subprocess.run([ROOT / "tools" / "lint"], cwd=ROOT, capture_output=True, text=True)
    tally.check("tools/lint", (lint.stdout + lint.stderr).splitlines() if lint.returncode else [])


def documents(tally):
    """Generated documents are up to date."""
    try:
        tally.check("generated documents", [f"{path} is out of date (make docs)" for path in generated.stale()])
    except (OSError, subprocess.CalledProcessError) as error:
        tally.fail("generated documents", str(error))


def build(tally, variant):
    """Builds a variant; False, and a failure, when it does not compile."""
    done = subprocess.run([ROOT / "tools" / "build", variant], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        tally.fail(f"build {variant}", done.stdout[-6000:] + done.stderr)
    return done.returncode == 0


# --- programs under sanitizers -----------------------------------------------------------------------------------

CMOCKA_LINE = re.compile(r"^\[ +(RUN|OK|FAILED|SKIPPED) +\] (\w+)$", re.MULTILINE)


def count_cmocka(tally, program, outcome):
    """Counts the tests of one unit test program from what cmocka printed.

    A test that began and said nothing more ended the program; so did a program that failed without a failed test.
    """
    begun = None
    failed_before = tally.failed
    lines = CMOCKA_LINE.findall(outcome["stdout"])
    for state, name in lines:
        if state == "RUN":
            begun = name
        elif name == begun:
            if state == "OK":
                tally.ok()
            elif state == "SKIPPED":
                tally.skip(f"{program}: {name}")
            else:
                tally.fail(f"{program}: {name}", outcome.get("stderr", "")[-4000:])
            begun = None
    if begun:
        tally.fail(f"{program}: {begun} ended the program", outcome.get("stderr", "")[-4000:])
    elif outcome["result"] != "OK" and tally.failed == failed_before:
        tally.fail(f"{program}: {outcome['result']}", (outcome["stdout"] + outcome.get("stderr", ""))[-4000:])
    elif not lines:
        tally.fail(f"{program}: ran no test")


def count_fuzz(tally, program, outcome):
    if outcome["result"] == "OK":
        tally.ok()
    else:
        tally.fail(f"{program}: replay", (outcome["stdout"] + outcome.get("stderr", ""))[-4000:])


def meson_tests(tally, folder, suite, count, pattern):
    """Runs the programs of a suite and hands the outcome of each to COUNT."""
    listed = subprocess.run(
        ["meson", "test", "-C", folder, "--list", "--suite", suite], cwd=ROOT, capture_output=True, text=True
    )
    names = [line.split(" / ")[-1].strip() for line in listed.stdout.splitlines() if " / " in line]
    chosen = [name for name in names if pattern is None or pattern in name]
    if not chosen:
        if pattern is None:
            tally.fail(f"{suite}: no programs in {folder}", listed.stderr)
        return
    log = ROOT / folder / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    subprocess.run(
        ["meson", "test", "-C", folder, "--no-rebuild", "--num-processes", "2", *chosen],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    outcomes = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for outcome in outcomes:
        count(tally, outcome["name"].split(" / ")[-1], outcome)
    if len(outcomes) != len(chosen):
        tally.fail(f"{suite}: {len(outcomes)} of {len(chosen)} programs of {folder} ran")


def unit_and_fuzz(tally, pattern):
    if build(tally, "asan"):
        meson_tests(tally, "build-asan", "unit", count_cmocka, pattern)
        meson_tests(tally, "build-asan", "fuzz", count_fuzz, pattern)


def thread_sanitizer(tally, pattern):
    if build(tally, "tsan"):
        meson_tests(tally, "build-tsan", "unit", count_cmocka, pattern)


def service_under(tally, sanitizer, pattern):
    """The tests of the service against programs of build-asan or build-tsan."""
    if build(tally, sanitizer):
        chosen = ["-k", pattern] if pattern else []
        environment = {**os.environ, f"DUCT_{sanitizer.upper()}": "1"}
        pytest_run(tally, [*chosen, *SERVICE_TESTS], may_be_empty=pattern is not None, env=environment)


def fuzz_for_real(tally, pattern):
    """libFuzzer on every target for a while; what it finds is kept beside the build."""
    if not build(tally, "fuzz"):
        return
    for source in sorted((ROOT / "tests" / "fuzz").glob("fuzz_*.c")):
        target = source.stem
        if pattern is not None and pattern not in target:
            continue
        grown = ROOT / "build-fuzz" / "corpus" / target
        grown.mkdir(parents=True, exist_ok=True)
        seeds = source.parent / "corpus" / target.removeprefix("fuzz_")
        limits = [f"-max_total_time={FUZZ_SECONDS}", "-timeout=10", "-rss_limit_mb=2048", "-verbosity=0"]
        done = subprocess.run(
            [ROOT / "build-fuzz" / "tests" / "fuzz" / target, *limits, grown, seeds],
            cwd=ROOT / "build-fuzz",
            capture_output=True,
            text=True,
            errors="replace",
        )
        tally.check(f"{target}: libFuzzer", [done.stderr[-4000:]] if done.returncode else [])


# --- pytest --------------------------------------------------------------------------------------------------------


def side_by_side(processes):
    """Options of pytest that share the files out to processes, each with servers and folders of its own.

    A file whose test ends its process is begun again by another, a few times: each time is a failure.
    """
    return ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder", "--max-worker-restart", "2"]


def python_tests(tally, pattern):
    """System and fault tests; their own output goes straight to the terminal."""
    folders = [name for name in PYTEST_FOLDERS if any((ROOT / "tests" / name).glob("test_*.py"))]
    chosen = ["-k", pattern] if pattern else []
    processes = max(1, min(4, len(os.sched_getaffinity(0))))
    beside = ["--durations", "40", *side_by_side(processes), "-m", f"not ({ALONE})"]
    pytest_run(tally, [*beside, *chosen, *folders], may_be_empty=pattern is not None)
    pytest_run(tally, ["-m", ALONE, *chosen, *folders], may_be_empty=True)


def pytest_run(tally, arguments, may_be_empty=False, folder=ROOT / "tests", env=None):
    """Runs pytest in a folder and counts every test of its report."""
    with tempfile.TemporaryDirectory(prefix="duct-check-") as own:
        report = Path(own) / "pytest.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-c", "pytest.ini", f"--junitxml={report}", *arguments]
        done = subprocess.run(command, cwd=folder, env=env)
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else None
    if cases is None:
        tally.fail(f"pytest ended with {done.returncode} and left no report")
        return
    failed_before = tally.failed
    for case in cases:
        name = f"{case.get('classname')}: {case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            tally.fail(name)
        elif skipped is not None:
            tally.skip(skipped.get("message") or "no reason given")
        else:
            tally.ok()
    nothing_chosen = done.returncode == 5 and may_be_empty
    if done.returncode and not nothing_chosen and tally.failed == failed_before:
        tally.fail(f"pytest ended with {done.returncode}")


# --- all ------------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(prog="./check", description="Runs everything that must pass.")
    parser.add_argument("-k", metavar="PATTERN", help="only tests with PATTERN in their name")
    pattern = parser.parse_args().k

    tally = Tally()
    steps = [
        ("unit tests and fuzz replay under ASan and UBSan", lambda: unit_and_fuzz(tally, pattern)),
        ("system and fault tests", lambda: python_tests(tally, pattern)),
    ]
    if pattern is None:
        steps.insert(0, ("rules and documents", lambda: (rules(tally), documents(tally))))
    if LONG:
        steps.append(("unit tests under TSan", lambda: thread_sanitizer(tally, pattern)))
        for name in ("tsan", "asan"):
            steps.append((f"tests of the service, all programs of build-{name}", lambda name=name: service_under(tally, name, pattern)))
        steps.append((f"libFuzzer, {FUZZ_SECONDS} s per target", lambda: fuzz_for_real(tally, pattern)))
    for title, step in steps:
        began = time.monotonic()
        print(f"== {title}", flush=True)
        step()
        print(f"   {time.monotonic() - began:.1f} s", flush=True)

    if tally.passed + tally.failed + tally.skipped.total() == 0:
        tally.fail(f"nothing ran for -k {pattern}")
    if tally.skipped:
        reasons = "; ".join(f"{reason} ({n})" if n > 1 else reason for reason, n in sorted(tally.skipped.items()))
        print(f"({sum(tally.skipped.values())} skipped: {reasons})")
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
