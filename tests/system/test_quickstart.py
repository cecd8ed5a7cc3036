"""./quickstart ends by itself, says what is true, and can say the opposite."""

import re
import subprocess
import sys

import pytest

from lib.lake import OfficialLake
from lib.paths import ROOT


def quickstart(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "quickstart.py", "--seconds", "1", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize("damaged", [False, True])
def test_quickstart_compares_for_real(server, tmp_path, damaged):
    server.needs(15, "publication of a schema")
    folder = tmp_path / "out"
    done = quickstart("--keep", str(folder), *(["--damage"] if damaged else []))
    output = done.stdout + done.stderr
    assert done.returncode == (1 if damaged else 0), output
    verdicts = re.findall(r"^ +(shop\.\w+) +([\d,]+) rows +(identical|different)$", done.stdout, re.MULTILINE)
    assert [verdict for _, _, verdict in verdicts] == ["different" if damaged else "identical"] + ["identical"] * 4, output
    transactions = int(re.search(r"([\d,]+) transactions committed", done.stdout)[1].replace(",", ""))
    assert transactions >= 1000
    assert (folder / "flow.yaml").exists()

    catalog = re.search(r"ATTACH 'ducklake:(\S+)' AS lake", done.stdout)[1]
    with OfficialLake(catalog) as lake:
        rows = {table: f"{lake.count(table):,}" for table, _, _ in verdicts}
    assert rows == {table: count for table, count, _ in verdicts}


def test_quickstart_leaves_other_folders_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")
    done = quickstart("--keep", str(tmp_path))
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert (tmp_path / "precious").read_text() == "mine"
