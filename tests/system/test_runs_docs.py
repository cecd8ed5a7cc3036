"""The command blocks of docs/runs.md and docs/schedules.md, in order, against a server (issue 5, point 5)."""

import re
import subprocess

import pytest
from lib.admin import Admin
from lib.paths import ROOT, program
from lib.service import Service
from lib.wait import wait_until

BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["runs", "schedules"])
def test_its_commands_do_what_it_says(page, tmp_path, database):
    database.sql("CREATE TABLE reports (at timestamptz)")
    commands = [line for block in BLOCK.findall((ROOT / f"docs/{page}.md").read_text()) for line in block.splitlines()]
    assert len(commands) >= 4
    with Service(tmp_path / "home", RUN_DSN_WAREHOUSE=database.dsn) as service:
        env = Admin(service.server.address).env | {"PATH": f"{program().parent}:/usr/bin:/bin"}
        for command in commands:
            done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
        wait_until(lambda: database.value("SELECT count(*) FROM reports") >= 2, 30, "the reports")
