#ifndef DUCT_REPORT_H
#define DUCT_REPORT_H

/* A finding of `ductstream check`: what was looked at, whether it is in order, and what to do when it is not (remedy may
 * be NULL when it is). */
enum duct_finding { DUCT_FINDING_OK, DUCT_FINDING_WARN, DUCT_FINDING_ERROR };
typedef void duct_report_fn(void *arg, enum duct_finding level, const char *what, const char *remedy);

#endif
