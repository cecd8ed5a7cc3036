#ifndef COPY_PROBE_H
#define COPY_PROBE_H

#include "base/ctx.h"
#include "base/report.h"
#include "copy/settings.h"

/* Where a lake's files are: an s3:// URL, asked with these options. */
struct copy_store {
	const struct s3_options *options;
	const char *data_path;
	bool create; /* a bucket that is missing */
};
/* The bucket, and to list, put, get and delete an object of our own below the prefix, each told by its name; nothing stays behind. Findings go to
 * report(). -class: the probes could not be begun or are to end. */
int copy_probe_store(const struct copy_store *store, const struct duct_ctx *ctx, duct_report_fn *report, void *arg,
		     struct duct_error *err) DUCT_CHECKED;

/*
 * What copies need, tried out: the bucket (which dev makes when it is missing), to list, put, get and delete an object of our own below the lake's
 * prefix, each told by its name, and the catalog. Findings go to report(). -class: the probes could not be begun or are to end.
 */
int copy_probe(const struct copy_settings *settings, const struct duct_ctx *ctx, duct_report_fn *report, void *arg,
	       struct duct_error *err) DUCT_CHECKED;

#endif
