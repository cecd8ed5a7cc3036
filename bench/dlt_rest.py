"""Pages of a REST API into a DuckLake by dlt, as its documents show it; runs in the environment of bench/requirements.txt.

Started as: dlt_rest.py URL CATALOG_FILE DATA_FOLDER EXTENSIONS_FOLDER
"""

import os
import sys
from pathlib import Path

# Nothing is sent to anyone, and no progress is drawn.
os.environ.update({"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"})

import dlt  # noqa: E402
from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials  # noqa: E402
from dlt.sources.rest_api import rest_api_source  # noqa: E402


def main():
    url, catalog, data, extensions = sys.argv[1:]
    credentials = DuckLakeCredentials("lake", catalog=f"sqlite:///{catalog}", storage=Path(data).as_uri())
    credentials.extensions = [f"'{extensions}/{name}.duckdb_extension'" for name in ("sqlite_scanner", "ducklake")]
    paginator = {"type": "page_number", "base_page": 1, "page_param": "page", "total_path": None, "stop_after_empty_page": True}
    source = rest_api_source(
        {
            "client": {"base_url": url},
            "resources": [{"name": "entries", "endpoint": {"path": "entries", "data_selector": "$", "paginator": paginator}}],
        }
    )
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(Path(catalog).parent / "dlt"),
        destination=dlt.destinations.ducklake(credentials=credentials),
        dataset_name="raw",
    )
    pipeline.run(source, write_disposition="append")


if __name__ == "__main__":
    main()
