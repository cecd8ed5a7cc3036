#include "api/pool.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/queue.h"

enum { MOST_WAITING = 256 };

struct job {
	struct api_pool *pool;
	void (*run)(void *arg);
	void *arg;
};

struct api_pool {
	struct duct_queue *queue;
	pthread_t *threads;
	int nthreads, most_alone;
	pthread_mutex_t mutex; /* of what follows */
	pthread_cond_t fewer;
	int alone, sharing; /* threads that have not left */
};

static void leave(struct api_pool *pool, int *count)
{
	pthread_mutex_lock(&pool->mutex);
	--*count;
	pthread_cond_signal(&pool->fewer);
	pthread_mutex_unlock(&pool->mutex);
}

static void *work(void *arg)
{
	struct api_pool *pool = arg;
	void *item;
	while (duct_queue_pop(pool->queue, &item, -1) == 1) {
		struct job *job = item;
		job->run(job->arg);
		free(job);
	}
	leave(pool, &pool->sharing);
	return NULL;
}

int api_pool_start(struct api_pool **ret, int threads, int alone, struct duct_error *err)
{
	struct api_pool *pool = duct_xcalloc(1, sizeof *pool);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->fewer, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&pool->mutex, NULL);
	pool->most_alone = alone;
	pool->queue = duct_queue_new(MOST_WAITING);
	pool->threads = duct_xcalloc((size_t)threads, sizeof *pool->threads);
	for (; pool->nthreads < threads; pool->nthreads++) {
		pthread_mutex_lock(&pool->mutex);
		int rc = pthread_create(&pool->threads[pool->nthreads], NULL, work, pool);
		pool->sharing += rc == 0;
		pthread_mutex_unlock(&pool->mutex);
		if (rc) {
			(void)api_pool_stop(pool, 0); /* its threads have nothing to do */
			return duct_fail(err, DUCT_RETRY, "a thread cannot be started: %s", strerror(rc));
		}
	}
	*ret = pool;
	return 0;
}

static void *work_alone(void *arg)
{
	struct job *job = arg;
	struct api_pool *pool = job->pool;
	job->run(job->arg);
	free(job);
	leave(pool, &pool->alone);
	return NULL;
}

static bool start_alone(struct api_pool *pool, struct job *job)
{
	pthread_mutex_lock(&pool->mutex);
	bool room = pool->alone < pool->most_alone;
	pool->alone += room;
	pthread_mutex_unlock(&pool->mutex);
	pthread_t thread;
	if (!room)
		return false;
	if (pthread_create(&thread, NULL, work_alone, job) == 0) {
		pthread_detach(thread);
		return true;
	}
	leave(pool, &pool->alone);
	return false;
}

bool api_pool_give(struct api_pool *pool, void (*run)(void *arg), void *arg, bool alone)
{
	struct job *job = duct_xmalloc(sizeof *job);
	*job = (struct job){.pool = pool, .run = run, .arg = arg};
	if (alone ? start_alone(pool, job) : duct_queue_push(pool->queue, job, 1, 0) == 1)
		return true;
	free(job);
	return false;
}

bool api_pool_stop(struct api_pool *pool, int timeout_ms)
{
	if (!pool)
		return true;
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000 + 1;
	duct_queue_close(pool->queue);
	pthread_mutex_lock(&pool->mutex);
	int rc = 0;
	while (pool->alone + pool->sharing > 0 && rc == 0)
		rc = pthread_cond_timedwait(&pool->fewer, &pool->mutex, &until);
	bool none = pool->alone + pool->sharing == 0;
	pthread_mutex_unlock(&pool->mutex);
	if (!none)
		return false;
	for (int i = 0; i < pool->nthreads; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->fewer);
	pthread_mutex_destroy(&pool->mutex);
	duct_queue_free(pool->queue);
	free(pool->threads);
	free(pool);
	return true;
}
