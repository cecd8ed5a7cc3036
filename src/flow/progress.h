#ifndef FLOW_PROGRESS_H
#define FLOW_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/buf.h"
#include "flow/counters.h"
#include "record/relation.h"

/*
 * What a person or a program sees of a running flow. The copy publishes a flow_copy_view, everything else is read from
 * the counters. One thread (the supervisor) owns the flow_progress.
 */

/* One table being copied; workers add to the counts. */
struct flow_table_view {
	char *name; /* "schema.name" */
	uint64_t estimated_rows, estimated_bytes;
	atomic_uint_least64_t rows, bytes;
	atomic_int parts_left; /* 0: done */
};

struct flow_copy_view {
	atomic_uint refs;
	size_t ntables;
	struct flow_table_view tables[];
};
struct flow_copy_view *flow_copy_view_new(size_t ntables); /* one reference; names are filled in by the caller */
struct flow_copy_view *flow_copy_view_ref(struct flow_copy_view *view);
void flow_copy_view_unref(struct flow_copy_view *view); /* accepts NULL */

enum flow_display {
	FLOW_DISPLAY_NONE,
	FLOW_DISPLAY_TERMINAL, /* a bar per table, then one live line, redrawn in place */
	FLOW_DISPLAY_LINES,    /* a plain line every few seconds */
	FLOW_DISPLAY_JSON,
};

struct flow_progress;

/* flow and counters are borrowed. fd: where to write; a failed write is ignored (nobody is looking). */
struct flow_progress *flow_progress_new(const char *flow, enum flow_display display, int fd, struct flow_counters *counters);
void flow_progress_free(struct flow_progress *progress); /* accepts NULL */

/* The copy that runs now; takes the reference. */
void flow_progress_set_copy(struct flow_progress *progress, struct flow_copy_view *view);

/* Writes what is due at now_us (monotonic) and returns in how many milliseconds to come again. */
int flow_progress_tick(struct flow_progress *progress, int64_t now_us);

/* The end: what was not shown yet, `caught-up` when it was reached, `stopped` with the name of the result. */
void flow_progress_end(struct flow_progress *progress, int64_t now_us, bool caught_up, const char *result);

/* Writes all of it, or what can be written: nobody may be looking. */
void flow_write(int fd, const struct duct_buf *text);

/* For tests and displays: "1,234,567", "12.3 MB", "1h02m", and a bar of `width` cells. */
void flow_format_count(struct duct_buf *to, uint64_t n);
void flow_format_bytes(struct duct_buf *to, double bytes);
void flow_format_duration(struct duct_buf *to, int64_t us);
void flow_format_bar(struct duct_buf *to, double part, int width);

#endif
