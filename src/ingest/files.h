#ifndef INGEST_FILES_H
#define INGEST_FILES_H

#include "ingest/ingest.h"

/* One run over files that DuckDB reads: CSV, JSON lines, Parquet, Excel, on a disk or in S3. Their rows are added to the table, or replace it, in one
 * commit. *ret: rows, files, bytes, snapshot. */
int ingest_files(const struct ingest_spec *spec, struct lake *lake, const struct duct_ctx *ctx, const struct ingest_report *report,
		 struct ingest_result *ret, struct duct_error *err) DUCT_CHECKED;

#endif
