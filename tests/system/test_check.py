"""./check must be able to fail: its rules see a breach, and its counting sees a program that died."""

import pytest

import layers
from check import Tally, count_cmocka, pytest_run, side_by_side

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


@pytest.mark.parametrize("beside", [[], side_by_side(2)], ids=["one", "two"])
def test_python_tests_are_counted(tmp_path, beside):
    """A test that takes its process with it is a failure."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_a.py").write_text("import pytest\ndef test_a(): pass\ndef test_b(): assert False\ndef test_c(): pytest.skip('no')\n")
    (tmp_path / "test_b.py").write_text("import os\ndef test_a(): pass\ndef test_b(): os._exit(0)\ndef test_c(): pass\n")
    (tmp_path / "test_c.py").write_text("import pytest\n@pytest.fixture\ndef left():\n\tyield\n\tassert False\ndef test_a(left): pass\n")
    tally = Tally()
    pytest_run(tally, [*beside, "test_a.py", "test_c.py"], folder=tmp_path)
    assert (tally.passed, tally.failed, tally.skipped.total()) == (1, 2, 1)
    pytest_run(tally, [*beside, "test_b.py"], folder=tmp_path)
    assert tally.failed > 2


@pytest.mark.parametrize("may_be_empty", [True, False])
def test_a_run_without_tests_is_told(tmp_path, may_be_empty):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_a.py").write_text("def test_a(): pass\n")
    tally = Tally()
    pytest_run(tally, ["-k", "nothing", "test_a.py"], may_be_empty=may_be_empty, folder=tmp_path)
    assert (tally.passed, tally.failed) == (0, 0 if may_be_empty else 1)
