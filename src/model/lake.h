#ifndef MODEL_LAKE_H
#define MODEL_LAKE_H

#include <stdint.h>

#include "base/buf.h"
#include "duck/session.h"
#include "model/model.h"

/*
 * What models need to know of the lake: which tables there are, when each was last changed, and what the last build of each model left in the
 * message of its commit. Read from the catalog, by snapshots: a look reads what came since the last one. One thread at a time.
 */
struct model_lake;

struct model_table {
	int64_t id, begin; /* begin: the snapshot that made it */
	bool view;
	char *schema, *name, *sql; /* sql: of a view */
};

/*
 * What a build wrote: in the extra info of its commit, as JSON. That goes when the snapshot expires, and a build that gave the same rows has no commit:
 * so records are also kept in a table of the catalog, ductstream_model, which is a copy of what is known and never needed for what is right.
 */
struct model_record {
	char *name, *hash, *inputs; /* inputs: a JSON object of names and table ids */
	int64_t base;	  /* the snapshot whose rows it has: what it read, or a later one up to which nothing has changed */
	int64_t snapshot; /* in which its rows were as they were made: its commit, or a later one */
	bool kept;	  /* as it is in the table */
};

/* config and conn are borrowed; the lake is attached as MODEL_LAKE. */
int model_lake_open(struct model_lake **ret, const struct duck_lake *config, struct duck_conn *conn,
		    struct duct_error *err) DUCT_CHECKED;
void model_lake_close(struct model_lake *lake); /* accepts NULL */
int model_lake_look(struct model_lake *lake, struct duct_error *err) DUCT_CHECKED;

/* NULL: there is none. Valid until the next look. */
const struct model_table *model_lake_table(const struct model_lake *lake, const char *schema, const char *name);
const struct model_record *model_lake_record(const struct model_lake *lake, const char *schema, const char *name);
/* The last snapshot in which rows or columns of the table changed; -1: none that is still kept. */
int64_t model_lake_changed(const struct model_lake *lake, int64_t table_id);
/* The last one in which its columns changed, which gives a name other values and is no change of a row; -1: none that is still kept. */
int64_t model_lake_altered(const struct model_lake *lake, int64_t table_id);
/* The newest snapshot of the last look. */
int64_t model_lake_head(const struct model_lake *lake);
/* What is known of a model now; is forgotten with the lake unless it is kept. */
void model_lake_note(struct model_lake *lake, const struct model_record *record);
/* Puts what is new of the records into the catalog's table. Who cannot write there loses no more than some builds. */
int model_lake_keep(struct model_lake *lake, struct duct_error *err) DUCT_CHECKED;
/* Every change after this snapshot is known: none of them has expired. */
bool model_lake_knows_since(const struct model_lake *lake, int64_t snapshot);
/* A query that counts the table's files that have ended after this snapshot, and have marks. */
void model_lake_put_ended(struct duct_buf *to, const struct model_lake *lake, int64_t table_id, int64_t snapshot);

#endif
