/* Threads that methods run on. */
#include "api/grpc_internal.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum { MOST_WAITING = 256 };

static void *work(void *arg)
{
	struct api_grpc *grpc = arg;
	void *rpc;
	while (duct_queue_pop(grpc->queue, &rpc, -1) == 1) {
		rpc_run(rpc);
		rpc_unref(rpc);
	}
	return NULL;
}

int work_start(struct api_grpc *grpc, struct duct_error *err)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&grpc->fewer, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&grpc->mutex, NULL);
	grpc->queue = duct_queue_new(MOST_WAITING);
	grpc->workers = duct_xcalloc((size_t)grpc->config.threads, sizeof *grpc->workers);
	for (; grpc->nworkers < grpc->config.threads; grpc->nworkers++) {
		int rc = pthread_create(&grpc->workers[grpc->nworkers], NULL, work, grpc);
		if (rc)
			return duct_fail(err, DUCT_RETRY, "a thread cannot be started: %s", strerror(rc));
	}
	return 0;
}

static void *work_alone(void *arg)
{
	struct rpc *rpc = arg;
	struct api_grpc *grpc = rpc->grpc;
	rpc_run(rpc);
	rpc_unref(rpc);
	pthread_mutex_lock(&grpc->mutex);
	grpc->running--;
	pthread_cond_signal(&grpc->fewer);
	pthread_mutex_unlock(&grpc->mutex);
	return NULL;
}

static bool start_thread(struct rpc *rpc)
{
	struct api_grpc *grpc = rpc->grpc;
	pthread_mutex_lock(&grpc->mutex);
	bool room = grpc->running < grpc->config.max_streams;
	grpc->running += room;
	pthread_mutex_unlock(&grpc->mutex);
	if (!room)
		return false;
	pthread_t thread;
	if (pthread_create(&thread, NULL, work_alone, rpc) == 0) {
		pthread_detach(thread);
		return true;
	}
	pthread_mutex_lock(&grpc->mutex);
	grpc->running--;
	pthread_mutex_unlock(&grpc->mutex);
	return false;
}

bool work_give(struct rpc *rpc)
{
	atomic_fetch_add(&rpc->refs, 1);
	if (rpc->has_thread ? start_thread(rpc) : duct_queue_push(rpc->grpc->queue, rpc, 1, 0) == 1)
		return true;
	atomic_fetch_sub(&rpc->refs, 1);
	return false;
}

bool work_stop(struct api_grpc *grpc, int timeout_ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000 + 1;
	duct_queue_close(grpc->queue);
	pthread_mutex_lock(&grpc->mutex);
	int rc = 0;
	while (grpc->running > 0 && rc == 0)
		rc = pthread_cond_timedwait(&grpc->fewer, &grpc->mutex, &until);
	bool none = grpc->running == 0;
	pthread_mutex_unlock(&grpc->mutex);
	for (int i = 0; i < grpc->nworkers && none; i++)
		none = pthread_clockjoin_np(grpc->workers[i], NULL, CLOCK_MONOTONIC, &until) == 0;
	return none;
}
