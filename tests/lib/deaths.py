"""How the dead rows of a table's live files are written down."""

from .lake import LakeError


def kinds_of_deaths(lake, table):
    """Rows in delete files, and rows marked inside the catalog; of all tables of that name."""
    catalog = "__ducklake_metadata_lake"
    live = lake.sql(f"SELECT table_id FROM {catalog}.ducklake_table WHERE table_name = '{table}' AND end_snapshot IS NULL")[0][0]
    try:
        marks = lake.sql(f"SELECT count(*) FROM {catalog}.ducklake_inlined_delete_{live}")[0][0]
    except LakeError:
        marks = 0  # there is no such table yet
    files = lake.sql(f"SELECT coalesce(sum(delete_count), 0)::BIGINT FROM {catalog}.ducklake_delete_file WHERE table_id = {live} AND end_snapshot IS NULL")[0][0]
    return files, marks
