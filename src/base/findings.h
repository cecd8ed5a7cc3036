#ifndef DUCT_FINDINGS_H
#define DUCT_FINDINGS_H

#include <stddef.h>

#include "base/error.h"

/*
 * What is wrong with something that is checked as a whole: every finding is written down, in the order in which they were met, at most
 * DUCT_FINDINGS_MOST of them. Zero-initialise it.
 */
enum { DUCT_FINDINGS_MOST = 200 };

struct duct_findings {
	struct duct_error *list;
	size_t n, cap;
};

void duct_findings_add(struct duct_findings *findings, const struct duct_error *finding);
/* One of class CONFIG. */
void duct_findings_say(struct duct_findings *findings, const char *fmt, ...) DUCT_PRINTF(2, 3);
void duct_findings_done(struct duct_findings *findings);
#define AUTO_FINDINGS __attribute__((cleanup(duct_findings_done)))

#endif
