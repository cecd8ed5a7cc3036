#ifndef MODEL_LAKE_H
#define MODEL_LAKE_H

#include <stdint.h>

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

/* What a build wrote: in the extra info of its commit, as JSON. */
struct model_record {
	char *name, *hash, *inputs; /* inputs: a JSON object of names and table ids */
	int64_t base;		    /* the snapshot whose rows it read */
	int64_t snapshot;	    /* its commit */
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
/* Every change after this snapshot is known: none of them has expired. */
bool model_lake_knows_since(const struct model_lake *lake, int64_t snapshot);

#endif
