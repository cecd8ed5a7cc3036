#ifndef DUCT_RETRY_H
#define DUCT_RETRY_H

#include <stdbool.h>
#include <stdint.h>

/*
 * When to try again: capped exponential back-off with full jitter. Pure arithmetic over times that the caller passes
 * (monotonic microseconds), so that it is tested without waiting.
 */
struct duct_retry {
	int64_t base_us, cap_us;
	int64_t healthy_us;	  /* an attempt that lived so long starts the back-off anew */
	int64_t give_up_us;	  /* 0: never */
	uint64_t random;	  /* state of the jitter */
	int failures;		  /* in a row */
	int64_t first_failure_us; /* of those since the last progress; 0: none */
};

/* 200 ms doubling to 30 s, a minute is healthy. */
void duct_retry_init(struct duct_retry *retry, int64_t give_up_us, uint64_t seed);

/* Something became durable: later failures are a new series. */
void duct_retry_progress(struct duct_retry *retry);

/* An attempt that began at started_us failed at now_us. Returns how long to wait (0 .. cap_us), -1 to give up. */
int64_t duct_retry_failed(struct duct_retry *retry, int64_t started_us, int64_t now_us);

#endif
