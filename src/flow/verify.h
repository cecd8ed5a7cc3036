#ifndef FLOW_VERIFY_H
#define FLOW_VERIFY_H

#include "flow/flow.h"

/*
 * `ductstream lake verify FLOW`, `ductstream-admin certify`: compares each table of the source with its table at the destination (ducklake or
 * duckdb) by content, while both may be changing. A row that differs is looked at again until it agrees, or until it has changed on neither
 * side between looks: only that is a difference. Rows that a destination with soft_delete keeps as deleted are left out; one that keeps
 * every change (append_mode, write_mode append) cannot be compared.
 */
struct flow_verify_options {
	const char *const *tables; /* "schema.name", NULL-terminated; NULL: all */
	int64_t timeout_ms;	   /* how long the destination may take to pass a mark; 0: 60 s */
	int max_shown;		   /* differing keys named per table; 0: 10 */
	bool json;		   /* findings as JSON lines, with a hash over the rows of each side */
	bool hashes;		   /* the hashes in text, too; of tables that change they are of different moments */
	double sample;	  /* share of the keys whose rows are compared, the same on both sides; all rows are counted. 0: all */
	bool destination; /* findings say "destination", not "lake" */
	int fd;		  /* where findings are written, usually 1 */
};

/*
 * Writes one line per table (rows on both sides, identical or different, the differing keys). Returns 0 when everything
 * is identical, -DATA (with a summary) when something differs, another -class when the comparison could not be made.
 * Changes nothing in the lake; at the source it emits one transactional logical message as a mark when it may.
 */
int flow_verify(const struct flow_spec *spec, const struct flow_verify_options *options, const struct duct_ctx *ctx,
		struct duct_error *err) DUCT_CHECKED;

#endif
