#ifndef DUCT_POSITION_H
#define DUCT_POSITION_H

#include <stdint.h>

#include "base/error.h"

/* A place in a source's stream of changes. For Postgres `lsn` is the end_lsn of a commit record (or a keep-alive's
 * position); compare as numbers. 0 = none. */
struct duct_pos {
	uint64_t lsn;
	int64_t commit_us; /* commit time at the source, microseconds since 1970 UTC; 0 when unknown */
};

#define DUCT_LSN_LEN 18 /* "FFFFFFFF/FFFFFFFF" + NUL */

/* "16/B374D848"; returns `to` (at least DUCT_LSN_LEN bytes). */
char *duct_lsn_format(char *to, uint64_t lsn);

/* Accepts H/H in hex (1 to 8 digits each) and nothing around it. */
int duct_lsn_parse(const char *text, uint64_t *ret, struct duct_error *err) DUCT_CHECKED;

#endif
