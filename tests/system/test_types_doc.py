"""docs/types.md says which lake type each Postgres type becomes: a column of every row of its table proves it."""

import re

from lib.paths import ROOT

ROW = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \|")
EXAMPLES = """
CREATE EXTENSION hstore; CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('ok'); CREATE DOMAIN age AS int; CREATE TYPE addr AS (street text, zip int);
"""


def test_documented_types(database, sqlite_lake, make_flow):
    database.needs(15, "numeric(5,-2)")
    lines = (ROOT / "docs/types.md").read_text().splitlines()
    rows = [match.groups() for match in map(ROW.match, lines) if match]
    assert len(rows) > 60
    database.sql(EXAMPLES)
    columns = ", ".join(f"c{i} {source}" for i, (source, _) in enumerate(rows))
    database.sql(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    make_flow(database, sqlite_lake).run_until_caught_up()
    with sqlite_lake.open() as lake:
        found = dict(
            lake.sql("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 't'")
        )
    wrong = {source: found[f"c{i}"] for i, (source, wanted) in enumerate(rows) if found[f"c{i}"] != wanted}
    assert not wrong, f"docs/types.md is not true of these: {wrong}"
