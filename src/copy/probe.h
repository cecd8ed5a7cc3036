#ifndef COPY_PROBE_H
#define COPY_PROBE_H

#include "base/ctx.h"
#include "base/report.h"
#include "copy/settings.h"

/*
 * What copies need, tried out: the bucket (which dev makes when it is missing), to list, put, get and delete an object of our own below the lake's
 * prefix, each told by its name, and the catalog. Findings go to report(). -class: the probes could not be begun or are to end.
 */
int copy_probe(const struct copy_settings *settings, const struct duct_ctx *ctx, duct_report_fn *report, void *arg,
	       struct duct_error *err) DUCT_CHECKED;

#endif
