#ifndef LAKE_VITALS_INTERNAL_H
#define LAKE_VITALS_INTERNAL_H

#include "lake/lake.h"
#include "lake/vitals.h"

/* What vitals*.c share. */
struct vitals {
	const struct lake_vitals_wish *wish;
	struct lake_db *db;
	duct_report_fn *report;
	void *arg;
	struct lake_vitals *ret;
	int holdups; /* findings about locks and transactions */
};

void vitals_tell(const struct vitals *v, enum duct_finding level, const char *remedy, const char *fmt, ...) DUCT_PRINTF(4, 5);
/* "3 s", "12 min", "5 h", "2 days" */
void vitals_put_age(struct duct_buf *to, int64_t seconds);

/* Who holds the catalog up. -class: it could not be asked. */
int vitals_postgres_holdups(struct vitals *v, struct duct_error *err);
void vitals_sqlite_holdups(struct vitals *v, bool busy);

#endif
