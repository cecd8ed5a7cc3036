#ifndef RUN_ZONE_H
#define RUN_ZONE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * A time zone of the system's database (TZDIR, by default /usr/share/zoneinfo), read without libc's process-wide TZ, so that any thread may use
 * any zone. Immutable once loaded. "UTC" and "" need no file.
 */
struct run_zone;

/* CONFIG when there is no such zone. */
int run_zone_load(struct run_zone **ret, const char *name, struct duct_error *err) DUCT_CHECKED;
/* From the bytes of a TZif file. CONFIG when they are none. */
int run_zone_parse(struct run_zone **ret, const void *data, size_t n, struct duct_error *err) DUCT_CHECKED;
void run_zone_free(struct run_zone *zone); /* accepts NULL */

/* A stretch of time in which the clocks run as one: local = instant + offset, from begin (inclusive) to end (exclusive). Seconds. */
struct run_stretch {
	int64_t begin, end, offset;
};
struct run_stretch run_zone_at(const struct run_zone *zone, int64_t instant_s);

/* When the wall clock shows local_s (seconds since 1970 as if it were UTC). Shown twice: the first time. Never shown: the end of the gap. */
int64_t run_zone_instant(const struct run_zone *zone, int64_t local_s);

#endif
