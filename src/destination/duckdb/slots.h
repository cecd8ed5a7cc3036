#ifndef DUCKDB_SLOTS_H
#define DUCKDB_SLOTS_H

#include "destination/duckdb/duckdb.h"

/*
 * Some slots of a table as rows for SQL, named f there. Columns: those of the table (c0 ..), then whether the stored value counts (u0 .., of
 * the columns in `stored`), then the key (k0 ..). Each group may be left out.
 */
struct slots {
	struct dd_table *t;
	uint32_t *at;
	size_t n;
	int ncolumns, nstored, nkeys;
	const int *stored; /* columns of the table */
	const int *keys;   /* columns of the relation */
	bool stored_keys;  /* the keys under which the stored values are */
};

/* What the slots of a table's fold are; the arrays are as long as there are slots. */
struct slots_plan {
	struct slots dead, new, lacking;
	int *stored;
	size_t bases;
};

/* apply.c. Runs `before` (the slots) `after`. */
int slots_run(struct duckdb_dest *d, struct slots *s, const char *before, const char *after, uint64_t *ret_changed,
	      struct duct_error *err);
/* `f.c0`, the value of a column of the table; `f.k0`, of the nth of `keys`. */
void slots_put_value(struct duct_buf *to, const struct slots *s, int column);
void slots_put_key(struct duct_buf *to, const struct slots *s, int nth);
/* DATA: a value is nowhere. */
int slots_lack(const struct dd_table *t, int column, struct duct_error *err);

/* twin.c: replays. The table keeps its rows until all has come, for they have what is not sent; what the replay does goes to a twin. */
/* What is folded of it so far. */
int twin_apply(struct duckdb_dest *d, struct dd_table *t, struct slots_plan *plan, struct duct_error *err);
/* What came before is void. */
int twin_truncate(struct duckdb_dest *d, const struct dd_table *t, struct duct_error *err);
/* All has come: it goes into the table. */
int twin_finish(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err);

#endif
