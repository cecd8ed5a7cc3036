/* The back-off: see retry.h. */
#include "base/retry.h"

void duct_retry_init(struct duct_retry *retry, int64_t give_up_us, uint64_t seed)
{
	*retry = (struct duct_retry){
		.base_us = 200 * 1000,
		.cap_us = 30 * 1000 * 1000,
		.healthy_us = 60 * 1000 * 1000,
		.give_up_us = give_up_us,
		.random = seed | 1,
	};
}

void duct_retry_progress(struct duct_retry *retry)
{
	retry->failures = 0;
	retry->first_failure_us = 0;
}

/* xorshift64*: good enough to keep processes from trying in step. */
static uint64_t next_random(struct duct_retry *retry)
{
	uint64_t x = retry->random;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	retry->random = x;
	return (x * 0x2545F4914F6CDD1Dull) >> 11;
}

int64_t duct_retry_failed(struct duct_retry *retry, int64_t started_us, int64_t now_us)
{
	if (!retry->first_failure_us)
		retry->first_failure_us = now_us;
	if (retry->give_up_us && now_us - retry->first_failure_us >= retry->give_up_us)
		return -1;
	if (now_us - started_us >= retry->healthy_us)
		retry->failures = 0;
	int64_t limit = retry->cap_us;
	if (retry->failures < 32 && retry->base_us << retry->failures < limit)
		limit = retry->base_us << retry->failures;
	retry->failures++;
	return (int64_t)(next_random(retry) % (uint64_t)(limit + 1));
}
