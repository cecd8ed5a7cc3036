#ifndef DESTINATION_TABLESINK_H
#define DESTINATION_TABLESINK_H

#include "base/report.h"
#include "options/options.h"
#include "record/batch.h"

/*
 * What tables may get beside the source's own columns, and what becomes of updates and deletes on the way: options that all
 * destinations of tables share, and one transform of batches that stands in front of a destination. docs/table-options.md says what they
 * mean. Without them nothing is made and nothing is copied.
 *
 * A destination has `struct tablesink_options sink` in its config, TABLESINK_OPTIONS in its table of options, calls tablesink_check() in its
 * check, tablesink_new() when it opens, and passes relations, batches and changes through here before it looks at them.
 */
struct tablesink;
struct tablesink_options {
	bool meta_enabled, soft_delete, append_mode;
	char *meta_synced_at, *meta_deleted, *meta_watermark, *meta_op;
	int watermark_source, write_mode;
	int batch_mode, batch_resolution;
	char *staging_schema, *staging_table, *staging_suffix;
	char *type_mappings, *type_mappings_file;
};
enum { TABLESINK_TIMESTAMP, TABLESINK_LSN };
enum { TABLESINK_TARGET, TABLESINK_APPEND };
enum { TABLESINK_DIRECT, TABLESINK_STAGING };
enum { TABLESINK_RESOLVE_NONE, TABLESINK_RESOLVE_APPEND, TABLESINK_RESOLVE_REPLACE };
extern const char *const tablesink_watermarks[], *const tablesink_write_modes[], *const tablesink_batch_modes[],
											 *const tablesink_resolutions[];

/* Rows for a table of options; C is the config struct. */
#define TABLESINK_OPTIONS(C) \
	OPT(C, sink.write_mode, "write_mode", DUCT_OPT_ENUM, "target", \
	    "target: insert, update and delete rows by their key; append: add a row for each insert and update", \
	    .values = tablesink_write_modes), \
		OPT(C, sink.meta_enabled, "meta_enabled", DUCT_OPT_BOOL, "false", \
		    "add columns that say when and how a row was last changed", \
		    .doc = "soft_delete and append_mode add them, too."), \
		OPT(C, sink.meta_synced_at, "meta_synced_at", DUCT_OPT_STR, "__ds_synced_at", \
		    "its name: when the row was written here"), \
		OPT(C, sink.meta_deleted, "meta_deleted", DUCT_OPT_STR, "__ds_is_deleted", \
		    "its name: whether the row is deleted at the source"), \
		OPT(C, sink.meta_watermark, "meta_watermark", DUCT_OPT_STR, "__ds_watermark", \
		    "its name: time or position of the change; - for no such column"), \
		OPT(C, sink.meta_op, "meta_op", DUCT_OPT_STR, "__ds_op", \
		    "its name: insert, update, delete, load or truncate, as it happened at the source"), \
		OPT(C, sink.watermark_source, "watermark_source", DUCT_OPT_ENUM, "timestamp", \
		    "the watermark is the time of the commit, or its position as a number", .values = tablesink_watermarks), \
		OPT(C, sink.soft_delete, "soft_delete", DUCT_OPT_BOOL, "false", "keep deleted rows and mark them as deleted"), \
		OPT(C, sink.append_mode, "append_mode", DUCT_OPT_BOOL, "false", \
		    "add a row for every change: inserts, updates and deletes alike", \
		    .doc = "A value that Postgres did not send with an update because it did not change (TOAST) is NULL in that row, " \
			   "unless the table has REPLICA IDENTITY FULL."), \
		OPT(C, sink.batch_mode, "batch_mode", DUCT_OPT_ENUM, "target", \
		    "where copied rows go: into the tables, or into staging tables beside them", .values = tablesink_batch_modes), \
		OPT(C, sink.batch_resolution, "batch_resolution", DUCT_OPT_ENUM, "none", \
		    "what becomes of staged rows at the end of a copy: they stay, are added to the table, or replace its rows", \
		    .values = tablesink_resolutions), \
		OPT(C, sink.staging_schema, "staging_schema", DUCT_OPT_STR, NULL, \
		    "schema of staging tables (that of the table when unset)"), \
		OPT(C, sink.staging_table, "staging_table", DUCT_OPT_STR, NULL, \
		    "name of the staging table, for a flow of one table (the table's name with staging_suffix when unset)"), \
		OPT(C, sink.staging_suffix, "staging_suffix", DUCT_OPT_STR, "_staging", \
		    "what the names of staging tables end in"), \
		OPT(C, sink.type_mappings, "type_mappings", DUCT_OPT_MAP, NULL, \
		    "source types and the types that columns of them get here instead of their own"), \
		OPT(C, sink.type_mappings_file, "type_mappings_file", DUCT_OPT_STR, NULL, "a JSON file of more of them")

/* Cross-option rules. */
int tablesink_check(const struct tablesink_options *options, struct duct_error *err) DUCT_CHECKED;

/* Whether rows are only ever added: they need no key then. */
bool tablesink_appends(const struct tablesink_options *options);

/* What becomes of staged rows at the end of a copy (TABLESINK_RESOLVE_*); `resolve`: they are to be taken over with it. */
int tablesink_resolution(const struct tablesink_options *options, bool resolve);

/*
 * Whether a copy (flags of enum duct_load) of so many tables, of which so many are `whole` (copied before, nothing missing), changes nothing
 * but staging tables: *ret. Those tables are then followed as if there were no copy, from before it on. CONFIG where some of them would have to
 * be followed from the copy on; *ret is then what it was of the copy before in the same run (false: there was none).
 */
int tablesink_apart(const struct tablesink_options *options, unsigned flags, size_t tables, size_t whole, bool *ret,
		    struct duct_error *err) DUCT_CHECKED;

/* Whether a table keeps rows that its source does not have, so that a copy made again must not end them. */
bool tablesink_keeps(const struct tablesink_options *options);

/* Where copied rows of a table are staged; malloc. */
void tablesink_staging_name(const struct tablesink_options *options, const char *schema, const char *table, char **ret_schema,
			    char **ret_table);
/* CONFIG when the options name one staging table and there are several tables. */
int tablesink_check_staging(const struct tablesink_options *options, struct duct_relation *const *relations, size_t n,
			    struct duct_error *err) DUCT_CHECKED;

/* For the destination's probe: reports what of these tables would be refused. */
void tablesink_probe(const struct tablesink_options *options, const struct duct_relations *tables, duct_report_fn *report,
		     void *arg);

/* *ret is NULL when the options ask for nothing. May be used by any number of threads at once. */
int tablesink_new(struct tablesink **ret, const struct tablesink_options *options, struct duct_error *err) DUCT_CHECKED;
void tablesink_free(struct tablesink *sink); /* accepts NULL */

/* What the relation becomes; it is the sink's. CONFIG when the source has a column of a name that is added, or rows of it could not be
 * found again. Relations that are not tables of the source stay as they are. */
int tablesink_relation(struct tablesink *sink, struct duct_relation *rel, struct duct_relation **ret,
		       struct duct_error *err) DUCT_CHECKED;

/* What a batch of a copy becomes: *ret is a new reference. */
int tablesink_batch(struct tablesink *sink, struct duct_batch *batch, struct duct_batch **ret, struct duct_error *err) DUCT_CHECKED;

/* Replaces *changes by what becomes of them, and frees them. On failure they stay as they are. */
int tablesink_changes(struct tablesink *sink, struct duct_changes **changes, struct duct_error *err) DUCT_CHECKED;

#endif
