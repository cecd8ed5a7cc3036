#ifndef DUCT_DDL_H
#define DUCT_DDL_H

#include "base/buf.h"
#include "base/error.h"
#include "record/relation.h"

/*
 * A change of a table's columns or its name, as a destination is about to make it: what governance shows, asks about and writes down. The destination
 * compares what it has with a relation version that it has not met, and tells the hook of its duct_ctx before anything of it is done.
 */
enum duct_ddl_kind {
	DUCT_DDL_ADD_COLUMN,
	DUCT_DDL_DROP_COLUMN,
	DUCT_DDL_RENAME_COLUMN,
	DUCT_DDL_ALTER_COLUMN, /* its type */
	DUCT_DDL_RENAME_TABLE,
};

struct duct_ddl_change {
	enum duct_ddl_kind kind;
	const char *column;		   /* the name before; RENAME_TABLE: of the table */
	const char *to_column;		   /* RENAME */
	const struct duct_type *from, *to; /* ALTER; ADD: to; DROP: from */
};

struct duct_ddl_plan {
	const struct duct_relation *relation; /* the table afterwards */
	struct duct_ddl_change *changes;      /* in the order in which they are made */
	size_t n, cap;
};
void duct_ddl_plan_add(struct duct_ddl_plan *plan, const struct duct_ddl_change *change);
void duct_ddl_plan_done(struct duct_ddl_plan *plan);

/* Values are lost that no later change brings back: a dropped column, a type that holds less. */
bool duct_ddl_irreversible(const struct duct_ddl_change *change);

/* ALTER TABLE statements for the destination's table, types as it has them. */
void duct_ddl_sql(struct duct_buf *to, const struct duct_ddl_plan *plan);
/* {"changes":[{"type":"add_column","namespace":..,"table":..,"column":..,"to_type":..,"irreversible":false}],"irreversible":false} */
void duct_ddl_json(struct duct_buf *to, const struct duct_ddl_plan *plan);
/* Of table and columns as they are to be: the same change met again, also by another run, has the same. 16 hex digits and a NUL. */
void duct_ddl_fingerprint(char to[17], const struct duct_relation *relation);

/*
 * Whoever wants to know, or to be asked. `met` is called by the destination inside write(), on its thread, once for each relation version
 * that changes something: 0 lets it happen, -class makes write() fail with that (CANCELLED: not now; the group is lost and the flow
 * ends as when it is stopped). `durable` is called by the flow after each commit.
 */
struct duct_ddl_hook {
	void *arg;
	bool gate; /* met() may hold a change back: what was committed before it at the source is then durable already */
	int (*met)(void *arg, const struct duct_ddl_plan *plan, uint64_t lsn, struct duct_error *err);
	int (*durable)(void *arg, uint64_t lsn, struct duct_error *err);
	uint64_t
		lsn; /* of the transaction that is being written, 0: it has not committed yet; set by the flow, read by the destination */
};

#endif
