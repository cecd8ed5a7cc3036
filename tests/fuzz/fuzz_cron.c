/* Cron expressions and files of the time zone database: what is taken has a next moment that is later and rises; nothing overruns. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "run/cron.h"

static void times(const struct run_cron *cron, const struct run_zone *zone, int64_t at)
{
	for (int i = 0; i < 4; i++) {
		int64_t next = run_cron_next(cron, zone, at);
		if (next <= at)
			abort();
		if (next == INT64_MAX)
			return;
		at = next;
	}
}

static void stretches(const struct run_zone *zone, int64_t at)
{
	struct run_stretch s = run_zone_at(zone, at);
	if (at < s.begin || at >= s.end || s.offset < -93600 || s.offset > 93600)
		abort();
	(void)run_zone_instant(zone, at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct duct_error err;
	struct run_cron cron;
	struct run_zone *zone;
	AUTO_FREE char *text = duct_xstrndup((const char *)data, size);
	if (run_cron_parse(&cron, text, &err) == 0) {
		if (run_zone_load(&zone, "Europe/Berlin", &err) == 0) {
			times(&cron, zone, 1774700000);
			run_zone_free(zone);
		}
	} else if (err.class != DUCT_CONFIG) {
		abort();
	}
	if (run_zone_parse(&zone, data, size, &err) < 0)
		return 0;
	for (int64_t at = -4000000000; at < 8000000000; at += 777777777)
		stretches(zone, at);
	if (run_cron_parse(&cron, "*/7 1 1,15 * *", &err) == 0)
		times(&cron, zone, 1774700000);
	run_zone_free(zone);
	return 0;
}
