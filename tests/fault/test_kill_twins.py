"""Two runs of the same job at once, one of which is held at each place and then dies, or goes on: every row is there once (issue 6)."""

import os
import signal
import subprocess

import pyarrow as pa
import pytest
from lib.clickhouse import missing as no_clickhouse
from lib.clickhouse import put_events
from lib.copies import Copies, delta_write
from lib.exports import EVENTS_JOB, Team, exports_server
from lib.ingest import Ingest, rest
from lib.models import Models
from lib.paths import program
from lib.pause import Pause
from lib.rest import RestServer
from lib.s3 import missing as no_s3
from lib.wait import wait_until

SOON_S = 2.5


class Twins:
    """start(state, env): a process of its own session, with its own history of runs."""

    def __init__(self, folder, start):
        self.folder, self.start = folder, start
        self.n = 0

    def meet(self, place, dies):
        """One waits at the place (or ends without coming by), the other one runs; then the first dies or goes on. Their exit codes."""
        self.n += 1
        name, _, nth = place.partition(":")
        pause = Pause(self.folder / f"meet-{self.n}", name, int(nth or 1))
        first = self.start("first", pause.env)
        wait_until(lambda: pause.reached or first.poll() is not None, 60, f"{place} to be reached")
        assert pause.reached, (place, first.communicate()[0])
        second = self.start("second", {})
        try:
            second.wait(timeout=SOON_S)  # or it waits for what the first one holds
        except subprocess.TimeoutExpired:
            pass
        if dies:
            os.killpg(first.pid, signal.SIGKILL)
        else:
            pause.release()
        said = [run.communicate(timeout=90)[0] for run in (first, second)]
        return first.returncode, second.returncode, said


def start_with(words, env):
    def start(state, more):
        return subprocess.Popen(
            [str(word) for word in (program(), *words)],
            env={**env, "DUCTSTREAM_STATE_PATH": env["DUCTSTREAM_STATE_PATH"] + f".{state}", **more},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    return start


def places_of(home, *places):
    """A place inside the catalog's transaction, by its kind."""
    return [*places, "commit-statement:3" if home.sqlite_path else "commit-sent"]


@pytest.mark.long
def test_copies(lake_home, tmp_path):
    """What was added since is added once."""
    delta = tmp_path / "delta"
    delta_write(delta, pa.table({"id": range(10)}))
    copies = Copies(tmp_path, lake_home.catalog, lake_home.data_path)
    copies.table(delta)
    words = ("copy", "data-modeling", "--team-id", 123, "--model", f"my_saved_query={delta}")
    twins = Twins(tmp_path, start_with(words, copies.env))
    there = 10
    for place in places_of(lake_home, "copy-written", "copy-verified", "commit-begin", "commit-done", "copy-committed"):
        for dies in True, False:
            delta_write(delta, pa.table({"id": range(there, there + 3)}), "append")
            there += 3
            first, second, said = twins.meet(place, dies)
            copies.table(delta)
            got = copies.rows("SELECT id FROM lake.data_modeling_team_123.my_saved_query ORDER BY id")
            assert got == [(n,) for n in range(there)], (place, dies, first, second, said)


def test_ingestion(lake_home, tmp_path):
    """A partition is that of one run, with the lists of its records."""
    ingest = Ingest(lake_home, tmp_path)
    items = []
    with RestServer(lambda request: (200, {}, items)) as server:
        more = "nested: tables\nwrite: merge\nmerge_key: [id]\ninline_rows: 0\npartition: {column: at}\nparams: {a: '{partition.key}'}\n"
        words = ("ingest", ingest.file(rest(server.url, more)), "--partition", "2024-10-15")
        twins = Twins(tmp_path, start_with(words, ingest.env))
        step = 0
        for place in places_of(lake_home, "epoch-raised", "file-written", "ingest-planned", "commit-begin", "commit-done", "ingest-committed"):
            for dies in True, False:
                step += 1
                items[:] = [{"id": i, "at": "2024-10-15T00:00:00Z", "step": step, "l": [step] * (i % 3)} for i in range(step % 7, 30)]
                first, second, said = twins.meet(place, dies)
                assert ingest.rows("SELECT id, step FROM raw.t ORDER BY id") == [(i, step) for i in range(step % 7, 30)], (place, dies, first, second, said)
                lists = ingest.rows('SELECT _parent_id, "value" FROM raw.t__l ORDER BY _parent_id, _index')
                assert lists == [(i, step) for i in range(step % 7, 30) for _ in range(i % 3)], (place, dies, said)


@pytest.mark.long
def test_models(lake_home, tmp_path):
    """Two folders with the same model: the next run mends what both have put in."""
    models = Models(tmp_path, lake_home)
    lake = lake_home.open()
    lake.sql("CREATE SCHEMA raw; CREATE TABLE raw.numbers AS SELECT i FROM range(10) t(i)")
    models.write("gold/k.sql", "-- materialized: incremental\n-- unique_key: i\nSELECT i, i * 2 AS d FROM raw.numbers")
    models.run()
    twins = Twins(tmp_path, start_with(("model", "run", models.folder), models.env))
    there = 10
    for place in "model-staged", "model-written", "model-checked", "model-committed":
        for dies in True, False:
            lake.sql(f"INSERT INTO raw.numbers SELECT i FROM range({there}, {there + 5}) t(i)")
            there += 5
            first, second, said = twins.meet(place, dies)
            models.run()
            assert lake.sql("SELECT i, d FROM gold.k ORDER BY i") == [(i, i * 2) for i in range(there)], (place, dies, first, second, said)


@pytest.mark.long
@pytest.mark.skipif(bool(no_clickhouse() or no_s3()), reason=str(no_clickhouse() or no_s3()))
def test_exports(lake_home, tmp_path, tmp_path_factory, s3, bucket):
    """A day is that of one run."""
    with exports_server(tmp_path_factory.mktemp("clickhouse"), s3) as clickhouse:
        team = Team(tmp_path, lake_home.catalog, s3, bucket, clickhouse)
        put_events(clickhouse, team.id, "2024-01-15", 10)
        team.run("_2024-01-15")
        words = ("backfill", "run", "--job", EVENTS_JOB, "--partition", f"{team.id}_2024-01-15")
        twins = Twins(tmp_path, start_with(words, team.env))
        there = 10
        for place in places_of(lake_home, "export-written", "commit-begin", "commit-done"):
            for dies in True, False:
                put_events(clickhouse, team.id, "2024-01-15", 5)
                there += 5
                first, second, said = twins.meet(place, dies)
                with team.lake() as lake:
                    got = lake.sql("SELECT count(*), count(DISTINCT uuid) FROM lake.posthog.events")
                assert got == [(there, there)], (place, dies, first, second, said)
