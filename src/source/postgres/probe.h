#ifndef POSTGRES_PROBE_H
#define POSTGRES_PROBE_H

#include "source/postgres/postgres.h"

/* What the files of `ductstream check` share; nobody else includes it. */
struct probe {
	struct postgres_source src; /* only config, ctx, sql, repl, server are used */
	duct_report_fn *report;
	void *arg;
	struct duct_relations *relations; /* for the destinations */
	struct pg_publication pub;	  /* where there is none: as the first start makes it */
	struct pg_slot slot;
};

void probe_say(struct probe *p, enum duct_finding level, const char *remedy, const char *fmt, ...) DUCT_PRINTF(4, 5);

/* The publication and its tables: those that it has, or will have. */
int probe_publication(struct probe *p, struct duct_error *err);

#endif
