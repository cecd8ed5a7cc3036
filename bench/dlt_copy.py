"""A copy of table t into a DuckLake by dlt with ConnectorX, as its documents show it; runs in the environment of bench/requirements.txt.

Started as: dlt_copy.py SOURCE_URL CATALOG_FILE DATA_FOLDER EXTENSIONS_FOLDER
"""

import os
import sys
from pathlib import Path

# Nothing is sent to anyone, and no progress is drawn.
os.environ.update({"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"})

import dlt  # noqa: E402
from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials  # noqa: E402
from dlt.sources.sql_database import sql_table  # noqa: E402


def main():
    source, catalog, data, extensions = sys.argv[1:]
    credentials = DuckLakeCredentials("lake", catalog=f"sqlite:///{catalog}", storage=Path(data).as_uri())
    credentials.extensions = [f"'{extensions}/{name}.duckdb_extension'" for name in ("sqlite_scanner", "ducklake")]
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(Path(catalog).parent / "dlt"),
        destination=dlt.destinations.ducklake(credentials=credentials),
        dataset_name="public",
    )
    pipeline.run(sql_table(source, table="t", backend="connectorx"), write_disposition="replace")


if __name__ == "__main__":
    main()
