#ifndef LAKE_MODEL_H
#define LAKE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "record/batch.h"

/*
 * What a DuckLake 1.0 catalog says, in memory, as of one snapshot. Ids and names are the catalog's own. Owned by
 * `struct lake` (catalog.h) and valid until its next lake_sync() or commit unless said otherwise.
 */

/* A root column with its nested children (children's column ids follow type->children depth-first). */
struct lake_column {
	int64_t id; /* column_id = Parquet field_id */
	const char *name;
	struct duct_type type;
	int64_t *leaf_ids; /* column ids of all nodes below this one, depth-first; NULL for scalars */
	int nleaf_ids;
	const char *initial_default; /* DuckDB text, NULL = NULL: what older files yield */
	bool nulls_allowed;
	bool supported;	       /* false: a type that we do not write (variant, geometry, interval, int128, ...) */
	const char *type_name; /* column_type as the catalog has it; NULL for a column that is not in it yet */
};

/* By which name a file that others wrote has a root column. */
struct lake_file_name {
	int64_t column_id;
	const char *name;
	bool in_path; /* not in the file: a "name=value" folder of its path has it */
};

/* One key of a partition spec. */
struct lake_partition_key {
	int64_t column_id;
	const char *transform; /* "identity", "year", "month", "day", "hour", "bucket(N)" */
};

struct lake_file {
	int64_t id;
	const char *path; /* absolute */
	int64_t record_count, size_bytes, begin_snapshot;
	int64_t row_id_start;		    /* -1: NULL in the catalog (row ids are explicit in the file) */
	int64_t partial_max;		    /* -1: NULL; else the file holds rows of several snapshots */
	bool has_mapping;		    /* registered foreign file with a column mapping: */
	const struct lake_file_name *names; /* of the root columns that it has */
	int nnames;
	int64_t delete_file_id;	   /* live delete file, -1: none */
	const char *delete_path;   /* absolute, NULL: none */
	const char *delete_format; /* "parquet" | "puffin", NULL: none */
	int64_t delete_count;
	int64_t mark_count; /* rows in ducklake_inlined_delete_<tid> for it */
	/* Of a partitioned table: the file's value of each key, NULL for NULL; the list is NULL for a file of an older spec or of none. */
	const char *const *partition_values;
};

/* Bounds over a whole table, text as in the catalog. has_row false: the catalog has no row for it (unknown). */
struct lake_table_column_stats {
	int64_t column_id;
	bool has_row;
	bool contains_null;
	int contains_nan;      /* -1 NULL, 0, 1 */
	const char *min, *max; /* NULL: unknown */
};

struct lake_table {
	int64_t id, schema_id;
	const char *schema, *name;
	const char *path; /* absolute directory with trailing slash */
	struct lake_column *columns;
	int ncolumns;
	int64_t max_column_id; /* greatest column_id ever used in it, dropped ones included */
	bool has_stats;	       /* a ducklake_table_stats row exists */
	int64_t record_count, next_row_id, file_size_bytes;
	struct lake_table_column_stats *column_stats; /* one per leaf column that has a row */
	int ncolumn_stats;
	int64_t partition_id; /* of the live partition spec with keys, -1: none */
	struct lake_partition_key *partition_keys;
	int npartition_keys;
	bool sorted;
	int64_t ninlined_tables; /* registered inlined tables */
	int64_t inlined_version; /* greatest schema version of these, -1: none */
	int64_t schema_version;	 /* that it was last changed at */
	bool has_delete_table;	 /* ducklake_inlined_delete_<tid> exists */
};

/* Statistics of one leaf column in one new file, text in the encodings of ducklake_file_column_stats. */
struct lake_column_stats {
	int64_t column_id;
	int64_t size_bytes, value_count, null_count;
	int contains_nan;      /* -1 NULL, 0, 1 */
	const char *min, *max; /* NULL: none */
};

/* A Parquet data file that was written and fsynced aside and is not registered yet. Memory from malloc: freed with
 * lake_new_file_free(). */
struct lake_new_file {
	char *path; /* absolute, or a URL where the data path is one; relative in its row when it lies under the table's path */
	int64_t record_count, size_bytes, footer_size;
	int64_t written_us;    /* of the monotonic clock, when writing it began; 0: not known */
	bool explicit_row_ids; /* has _ducklake_internal_row_id: registered with row_id_start NULL */
	/* Of rows that were in the lake before, inside the catalog: first and last snapshot that they are of, which the file
	 * says row by row. 0: new rows. */
	int64_t begin_snapshot, partial_max;
	struct lake_column_stats *stats;
	int nstats;
	/* One value per key of the table's partition spec, NULL for NULL; all rows have them. NULL: the table has no spec. */
	const char *const *partition_values;
	int npartition_values;
	int mapping;		 /* lake_txn_add_mapping(); 0: the file's columns have their ids */
	struct duct_arena arena; /* the strings of stats and partition_values */
};
/* The same file described once more, for another txn. */
struct lake_new_file *lake_new_file_copy(const struct lake_new_file *file);
void lake_new_file_free(struct lake_new_file *file); /* accepts NULL; does not touch the file on disk; parquet.c */

#endif
