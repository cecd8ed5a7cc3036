#ifndef DUCT_SOURCE_POSTGRES_COPY_H
#define DUCT_SOURCE_POSTGRES_COPY_H

#include "base/queue.h"
#include "source/postgres/postgres.h"

/* One part: a COPY statement. Immutable while parts are read. */
struct postgres_part {
	const struct pg_relation *relation;
	char *sql, *lock_sql;
	uint32_t storage_oid;
	uint64_t first_seq;
};

/* A copy in progress. Its snapshot lives as long as the keeper's transaction, so workers can come and go. */
struct postgres_copy {
	struct duct_snapshot snap; /* what the flow sees; impl points back */
	enum postgres_copy_kind kind;
	bool made_slot;
	struct pg_session *temporary; /* holds a temporary slot until the keeper has its snapshot */
	struct pg_session *keeper;
	char snapshot_name[64];		/* exported by the keeper; "" when parts read on their own */
	struct pg_relation **relations; /* as many as snap.relations */
	struct postgres_part *plans;	/* as many as snap.parts */
	size_t plans_cap, parts_cap;
	struct duct_queue *idle; /* sessions of workers between two parts */
	/* The keeper and every worker hold the locks of all tables from the beginning: a worker that locked later would
	 * queue behind an ALTER that waits for the keeper, for ever. False: too many tables; each part locks its own and
	 * finds out whether it was rewritten since. */
	bool locked;
};

/* A session in a transaction with the copy's snapshot. */
int postgres_copy_session(struct postgres_source *src, const struct postgres_copy *copy, struct pg_session **ret,
			  struct duct_error *err) DUCT_CHECKED;
/* Does the error say that a name of the plan means nothing any more? */
bool postgres_copy_outdated(const struct duct_error *err);

#endif
