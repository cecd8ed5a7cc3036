#ifndef INGEST_FETCH_H
#define INGEST_FETCH_H

#include "base/ctx.h"
#include "ingest/json.h"
#include "ingest/spec.h"

/* What is asked for: from begin (inclusive) to end (exclusive). */
struct ingest_window {
	const char *key; /* "2024-10-15"; NULL: everything there is */
	int64_t begin_us, end_us;
	int64_t local_begin_us, local_end_us; /* what the zone's clocks show then, as if it were UTC */
	const char *cursor;		      /* of the last run, or the initial one; NULL: the file has none */
};

struct ingest_fetched {
	int64_t pages, records, bytes, tries;
};

/*
 * Asks for page after page. page: takes what came (body may be taken away, doc points into it) and says how many records it had. Errors: those of the server
 * (CONFIG for what it refuses, RETRY for what passes), DATA for an answer that is none and for pages that come round again, -class of page().
 */
typedef int ingest_page_fn(void *arg, const struct json_doc *doc, struct duct_buf *body, int64_t *ret_records,
			   struct duct_error *err);
int ingest_fetch(const struct ingest_spec *spec, const struct ingest_window *window, const struct duct_ctx *ctx,
		 ingest_page_fn *page, void *arg, struct ingest_fetched *ret, struct duct_error *err) DUCT_CHECKED;

/* --- its parts, for tests */

/* Text with {partition.start}, {partition.end}, {partition.key} and {cursor} replaced; instants as 2024-10-15T00:00:00.000Z, or {partition.start:epoch},
 * :epoch_ms, :date. CONFIG: a placeholder that has no value. */
int ingest_expand(struct duct_buf *to, const char *text, const struct ingest_window *window, struct duct_error *err) DUCT_CHECKED;
/* The address with rel="next" in a Link header (RFC 8288); false: none. */
bool ingest_link_next(const char *header, struct duct_buf *to);
/* A reference seen from a URL; false: it is of another server (scheme, host, port), to whom nothing of ours is sent. */
bool ingest_follow(const char *from, const char *reference, struct duct_buf *to);

#endif
