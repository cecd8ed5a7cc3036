#ifndef INGEST_FILES_H
#define INGEST_FILES_H

#include "ingest/ingest.h"

/* One run over files that DuckDB reads: CSV, JSON lines, Parquet, Excel, on a disk or in S3. Their rows are added to the table, merged into
 * it, or replace it, in one commit: as ingest_rest(), with types that are not guessed but those of the files. */
int ingest_files(const struct ingest_spec *spec, struct ingest_place *place, const struct duct_ctx *ctx,
		 const struct ingest_report *report, struct ingest_result *ret, struct duct_error *err) DUCT_CHECKED;

#endif
