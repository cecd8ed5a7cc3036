#ifndef OTEL_POST_H
#define OTEL_POST_H

#include <stdatomic.h>

#include "base/buf.h"
#include "otel/settings.h"

/* One POST after the other, over a connection that is kept. Of one thread. */
struct otel_post;

/* stop_us: monotonic; once it is not 0 a request that lasts is cut off then. Borrowed, as the settings are. */
struct otel_post *otel_post_new(const struct otel_signal *signal, const _Atomic(int64_t) *stop_us);
void otel_post_free(struct otel_post *post); /* accepts NULL */

enum otel_posted { OTEL_TAKEN, OTEL_AGAIN, OTEL_REFUSED };
/* AGAIN: the collector is away or busy; *ret_after_ms is how long it asked to be left alone, 0: it did not say. REFUSED: it will not take this.
 * why: of what was not taken. */
enum otel_posted otel_post(struct otel_post *post, const struct duct_buf *body, int64_t *ret_after_ms, char *why, size_t why_size);

#endif
