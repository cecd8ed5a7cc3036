"""./check must be able to fail: its rules see a breach, and its counting sees a program that died."""

import pytest

import layers
from check import Tally, count_cmocka

GREEN = "[==========] Running 2 test(s).\n[ RUN      ] a\n[       OK ] a\n[ RUN      ] b\n[  SKIPPED ] b\n"


@pytest.mark.parametrize(
    "folder, target, allowed",
    [
        ("lake", "base/error.h", True),
        ("lake", "lake/catalog.h", True),
        ("flow", "source/postgres/postgres.h", True),
        ("cmd", "cli/cli.h", True),
        ("base", "record/batch.h", False),
        ("pg", "flow/flow.h", False),
        ("record", "options/options.h", False),
        ("source", "destination/destination.h", False),
        ("lake", "catalog.h", False),
        ("lake", "elsewhere/x.h", False),
    ],
)
def test_includes_point_downward(folder, target, allowed):
    assert (layers.include_breach(folder, target) is None) == allowed


def test_rules_see_a_breach(tmp_path, monkeypatch):
    folder = tmp_path / "src" / "base"
    folder.mkdir(parents=True)
    (folder / "x.c").write_text('#include "flow/flow.h"\nvoid x(void) { usleep(1); }\n' + "\n" * layers.MAX_LINES)
    monkeypatch.setattr(layers, "ROOT", tmp_path)
    monkeypatch.setattr(layers, "SRC", tmp_path / "src")
    found = layers.breaches()
    assert {name: len(lines) for name, lines in found.items()} == {"includes": 1, "size": 1, "readme": 1, "sleep": 1}
    assert found["includes"][0].startswith("src/base/x.c:1:")
    assert found["sleep"][0].startswith("src/base/x.c:2:")


@pytest.mark.parametrize(
    "stdout, result, passed, failed, skipped",
    [
        (GREEN, "OK", 1, 0, 1),
        (GREEN + "[ RUN      ] c\n[  FAILED  ] c\n", "FAIL", 1, 1, 1),
        (GREEN + "[ RUN      ] c\n", "FAIL", 1, 1, 1),
        (GREEN, "FAIL", 1, 1, 1),
        ("", "OK", 0, 1, 0),
        ("", "TIMEOUT", 0, 1, 0),
    ],
)
def test_unit_tests_are_counted(stdout, result, passed, failed, skipped):
    tally = Tally()
    count_cmocka(tally, "test_x", {"stdout": stdout, "stderr": "", "result": result})
    assert (tally.passed, tally.failed, tally.skipped.total()) == (passed, failed, skipped)
