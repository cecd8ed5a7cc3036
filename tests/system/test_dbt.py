"""An existing dbt project builds into the same lake by a generated profile, with the real dbt (issue 6, point 5)."""

import os
import subprocess

import pytest
from lib.cli import ductstream
from lib.lake import LakeHome
from lib.models import Models
from lib.paths import CACHE

DBT = CACHE / "dbt-venv/bin/dbt"

PROJECT = """
name: cascade
version: "1.0"
profile: cascade
model-paths: [models]
models:
  cascade:
    bronze: {+schema: bronze, +materialized: view}
    silver: {+schema: silver, +materialized: table}
"""


def dbt(folder, *words, **env):
    """What dbt says; it must have done it."""
    env = {**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "HOME": str(folder), **env}
    done = subprocess.run([DBT, "--no-use-colors", *words], cwd=folder, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path):
    """A dbt project of two models."""
    folder = tmp_path / "dbt"
    for path, text in {
        "dbt_project.yml": PROJECT,
        "models/sources.yml": "sources: [{name: raw, database: ducklake, schema: raw, tables: [{name: entries}]}]\n",
        "models/bronze/stg_entries.sql": "SELECT _id AS entry_id, sgv FROM {{ source('raw', 'entries') }}",
        "models/silver/fct_readings.sql": "SELECT *, sgv BETWEEN 70 AND 180 AS in_range FROM {{ ref('stg_entries') }}",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.mark.skipif(not DBT.exists(), reason="tools/setup --servers gets dbt")
@pytest.mark.parametrize("password", ["sqlite", "postgres"])
def test_dbt_builds_into_the_lake(password, request, project, tmp_path):
    """The page's fault does not happen: what dbt builds is in the lake, in schema bronze, for any other client; our models read it."""
    home: LakeHome = request.getfixturevalue(f"{password}_lake")
    lake = home.open()
    lake.sql("CREATE SCHEMA raw")
    lake.sql("CREATE TABLE raw.entries AS SELECT 'e' || i AS _id, 60 + i AS sgv FROM range(20) t(i)")
    catalog = home.catalog + (" password=hunter2-hidden" if password == "postgres" else "")
    words = ["--profile", "cascade", "--catalog", catalog, "--data-path", home.data_path]
    code, out, err = ductstream("model", "dbt-profile", project, *words)
    assert code == 0 and out.count("written") == 2, err
    assert "hunter2" not in (project / "profiles.yml").read_text()
    assert ductstream("model", "dbt-profile", project, *words)[1].count("left as it is") == 2

    said = dbt(project, "run", DUCKLAKE_RDS_PASSWORD="hunter2-hidden")
    assert "PASS=2" in said
    fresh = home.open()
    assert fresh.count("bronze.stg_entries") == 20
    assert fresh.value("SELECT count(*) FROM silver.fct_readings WHERE in_range") == 10
    assert fresh.sql("SELECT DISTINCT schema_name FROM duckdb_schemas() WHERE database_name = 'lake' AND schema_name LIKE '%e%' ORDER BY 1") == [
        ("bronze",),
        ("silver",),
    ]
    models = Models(tmp_path, home)
    models.write("gold/share.sql", "-- materialized: table\nSELECT avg(in_range::INT) AS share FROM silver.fct_readings")
    assert models.run() == {"gold.share": "built"}
    assert home.open().rows("gold.share") == [(0.5,)]
