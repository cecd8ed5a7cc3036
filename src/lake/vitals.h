#ifndef LAKE_VITALS_H
#define LAKE_VITALS_H

#include "base/report.h"
#include "lake/catalog.h"

/*
 * What an operator asks of a catalog before he blames the lake: whether it is there, in a version that we know, with its schemas; whether it can be
 * written; who holds it up. What is written is taken back in the same transaction: no snapshot comes of it, and no flow loses its epoch.
 */
struct lake_vitals_wish {
	const struct lake_config *config; /* its catalog, data path and busy timeout count */
	const char *label;		  /* of the catalog, without a secret */
	const char *const *schemas;	  /* that are expected, NULL-terminated */
	int64_t long_ms;		  /* transactions that last longer are told of */
};

struct lake_vitals {
	bool there;	 /* there is a lake that can be read */
	bool held;	 /* somebody has it so that others had better not try */
	char *data_path; /* NULL: not known; the caller frees */
	char *schema;	 /* the first of the expected ones that is there, NULL: none; the caller frees */
};

/* Findings, each with what to do, go to report(). 0: all was looked at; -CANCELLED. */
int lake_vitals(const struct lake_vitals_wish *wish, const struct duct_ctx *ctx, duct_report_fn *report, void *arg,
		struct lake_vitals *ret, struct duct_error *err) DUCT_CHECKED;

#endif
