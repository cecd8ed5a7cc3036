#include "base/queue.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "base/mem.h"

/* A ring of items under one mutex; two conditions on the monotonic clock, so that a changed wall clock wakes nobody. */
struct item {
	void *pointer;
	size_t weight;
};

struct duct_queue {
	pthread_mutex_t mutex;
	pthread_cond_t can_push, can_pop;
	struct item *ring;
	size_t cap, first, count;
	size_t weight, max_weight; /* of the items inside */
	bool counts_taken;
	size_t taken; /* weight of the item popped last, until the next pop */
	bool closed;
};

struct duct_queue *duct_queue_new(size_t max_weight)
{
	struct duct_queue *q = duct_xcalloc(1, sizeof *q);
	q->max_weight = max_weight;
	q->cap = 16;
	q->ring = duct_xcalloc(q->cap, sizeof *q->ring);
	pthread_condattr_t attr;
	int rc = pthread_condattr_init(&attr);
	rc |= pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	rc |= pthread_cond_init(&q->can_push, &attr);
	rc |= pthread_cond_init(&q->can_pop, &attr);
	rc |= pthread_mutex_init(&q->mutex, NULL);
	assert(rc == 0);
	(void)rc; /* with default attributes these cannot fail on Linux */
	pthread_condattr_destroy(&attr);
	return q;
}

void duct_queue_free(struct duct_queue *q)
{
	if (!q)
		return;
	pthread_cond_destroy(&q->can_push);
	pthread_cond_destroy(&q->can_pop);
	pthread_mutex_destroy(&q->mutex);
	free(q->ring);
	free(q);
}

void duct_queue_count_taken(struct duct_queue *q)
{
	q->counts_taken = true;
}

static struct timespec deadline_after(int timeout_ms)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += timeout_ms / 1000;
	t.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

/* False when the deadline has passed. */
static bool wait_on(struct duct_queue *q, pthread_cond_t *cond, int timeout_ms, const struct timespec *deadline)
{
	if (timeout_ms == 0)
		return false;
	if (timeout_ms < 0)
		return pthread_cond_wait(cond, &q->mutex) == 0;
	return pthread_cond_timedwait(cond, &q->mutex, deadline) == 0;
}

static bool has_room(const struct duct_queue *q, size_t weight)
{
	if (q->taken && (q->taken > q->max_weight || weight > q->max_weight))
		return false; /* too heavy for two of them at once */
	return q->count == 0 || (q->weight <= q->max_weight && weight <= q->max_weight - q->weight);
}

static void ring_grow(struct duct_queue *q)
{
	struct item *bigger = duct_xcalloc(q->cap * 2, sizeof *bigger);
	for (size_t i = 0; i < q->count; i++)
		bigger[i] = q->ring[(q->first + i) % q->cap];
	free(q->ring);
	q->ring = bigger;
	q->first = 0;
	q->cap *= 2;
}

int duct_queue_push(struct duct_queue *q, void *item, size_t weight, int timeout_ms)
{
	struct timespec deadline = deadline_after(timeout_ms > 0 ? timeout_ms : 0);
	int result = 1;
	pthread_mutex_lock(&q->mutex);
	/* The condition is looked at once more after a timeout: room may have come at the same moment. */
	for (bool waiting = true; !q->closed && !has_room(q, weight);) {
		if (!waiting) {
			result = 0;
			break;
		}
		waiting = wait_on(q, &q->can_push, timeout_ms, &deadline);
	}
	if (q->closed)
		result = -1;
	if (result == 1) {
		if (q->count == q->cap)
			ring_grow(q);
		q->ring[(q->first + q->count) % q->cap] = (struct item){item, weight};
		q->count++;
		q->weight += weight;
		pthread_cond_signal(&q->can_pop);
	}
	pthread_mutex_unlock(&q->mutex);
	return result;
}

int duct_queue_pop(struct duct_queue *q, void **ret, int timeout_ms)
{
	struct timespec deadline = deadline_after(timeout_ms > 0 ? timeout_ms : 0);
	int result = 1;
	pthread_mutex_lock(&q->mutex);
	if (q->taken) /* done with */
		pthread_cond_broadcast(&q->can_push);
	q->taken = 0;
	for (bool waiting = true; q->count == 0 && !q->closed;) {
		if (!waiting) {
			result = 0;
			break;
		}
		waiting = wait_on(q, &q->can_pop, timeout_ms, &deadline);
	}
	if (q->count > 0) {
		struct item taken = q->ring[q->first];
		q->first = (q->first + 1) % q->cap;
		q->count--;
		q->weight -= taken.weight;
		q->taken = q->counts_taken ? taken.weight : 0;
		*ret = taken.pointer;
		/* Not signal: the sender that would be woken may need more room than another that waits. */
		pthread_cond_broadcast(&q->can_push);
	} else if (result == 1) {
		result = -1;
	}
	pthread_mutex_unlock(&q->mutex);
	return result;
}

size_t duct_queue_weight(struct duct_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	size_t weight = q->weight + q->taken;
	pthread_mutex_unlock(&q->mutex);
	return weight;
}

void duct_queue_close(struct duct_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	q->closed = true;
	pthread_cond_broadcast(&q->can_push);
	pthread_cond_broadcast(&q->can_pop);
	pthread_mutex_unlock(&q->mutex);
}
