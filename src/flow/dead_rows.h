#ifndef FLOW_DEAD_ROWS_H
#define FLOW_DEAD_ROWS_H

#include <stdatomic.h>

#include "base/log.h"
#include "record/batch.h"

/*
 * Warns of rows that could not be stored, as the source tells them in a synthetic relation: table, key and reason, no other
 * value. Many of them are told by the first of every few seconds. Any thread; the struct is zeroed at first.
 */
struct flow_dead_rows {
	atomic_int_least64_t window;
	atomic_uint told; /* in the window */
};
void flow_dead_rows_tell(struct flow_dead_rows *dead, const struct duct_log *log, const struct duct_batch *batch);

#endif
