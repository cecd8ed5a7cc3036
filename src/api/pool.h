#ifndef API_POOL_H
#define API_POOL_H

#include <stdbool.h>

#include "base/error.h"

/*
 * Threads that methods run on: a few that share what comes, and one each for what waits for things to happen. Nobody who gives work waits
 * here: what is too much is refused.
 */
struct api_pool;

/* threads: at the same time, MOST_WAITING more wait for one. alone: most threads of their own. */
int api_pool_start(struct api_pool **ret, int threads, int alone, struct duct_error *err) DUCT_CHECKED;
/* False: there is too much already. */
bool api_pool_give(struct api_pool *pool, void (*run)(void *arg), void *arg, bool alone);
/* Takes nothing more and waits until all have returned. False: not within the time; nothing is freed then. Accepts NULL. */
bool api_pool_stop(struct api_pool *pool, int timeout_ms);

#endif
