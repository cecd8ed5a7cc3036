/* base/queue.h: order, bound by weight, time-outs, closing, many threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/queue.h"

static void *number(uintptr_t n)
{
	return (void *)n;
}

static void keeps_order_and_weight(void **state)
{
	(void)state;
	struct duct_queue *q = duct_queue_new(1000);
	void *got = NULL;
	/* More items than the first ring has, with the ring's start moved. */
	for (uintptr_t i = 1; i <= 10; i++)
		assert_int_equal(duct_queue_push(q, number(i), 1, 0), 1);
	for (uintptr_t i = 1; i <= 10; i++) {
		assert_int_equal(duct_queue_pop(q, &got, 0), 1);
		assert_ptr_equal(got, number(i));
	}
	for (uintptr_t i = 1; i <= 100; i++)
		assert_int_equal(duct_queue_push(q, number(i), 3, 0), 1);
	assert_int_equal(duct_queue_weight(q), 300);
	for (uintptr_t i = 1; i <= 100; i++) {
		assert_int_equal(duct_queue_pop(q, &got, 0), 1);
		assert_ptr_equal(got, number(i));
	}
	assert_int_equal(duct_queue_weight(q), 0);
	duct_queue_free(q);
}

static void is_bound_by_weight(void **state)
{
	(void)state;
	struct duct_queue *q = duct_queue_new(10);
	void *got;
	assert_int_equal(duct_queue_push(q, number(1), 11, 0), 1); /* too heavy, but the queue is empty */
	assert_int_equal(duct_queue_push(q, number(2), 0, 0), 0);
	assert_int_equal(duct_queue_pop(q, &got, 0), 1);
	assert_int_equal(duct_queue_push(q, number(3), 6, 0), 1);
	assert_int_equal(duct_queue_push(q, number(4), 5, 0), 0);
	assert_int_equal(duct_queue_push(q, number(5), 4, 0), 1);
	assert_int_equal(duct_queue_push(q, number(6), SIZE_MAX, 0), 0);
	assert_int_equal(duct_queue_weight(q), 10);
	assert_int_equal(duct_queue_pop(q, &got, 0), 1);
	assert_ptr_equal(got, number(3));
	duct_queue_free(q);
}

/* What is too heavy is alone, also while its receiver works on it. */
static void counts_what_was_taken(void **state)
{
	(void)state;
	struct duct_queue *q = duct_queue_new(10);
	void *got;
	duct_queue_count_taken(q);
	assert_int_equal(duct_queue_push(q, number(1), 11, 0), 1);
	assert_int_equal(duct_queue_pop(q, &got, 0), 1);
	assert_int_equal(duct_queue_weight(q), 11);
	assert_int_equal(duct_queue_push(q, number(2), 1, 0), 0);
	assert_int_equal(duct_queue_pop(q, &got, 0), 0);
	assert_int_equal(duct_queue_weight(q), 0);
	assert_int_equal(duct_queue_push(q, number(2), 6, 0), 1);
	assert_int_equal(duct_queue_pop(q, &got, 0), 1);
	assert_int_equal(duct_queue_push(q, number(3), 11, 0), 0);
	assert_int_equal(duct_queue_push(q, number(3), 9, 0), 1); /* beside what is no more than the bound, as without a receiver */
	assert_int_equal(duct_queue_push(q, number(4), 2, 0), 0);
	assert_int_equal(duct_queue_pop(q, &got, 0), 1);
	assert_ptr_equal(got, number(3));
	assert_int_equal(duct_queue_push(q, number(4), 10, 0), 1);
	duct_queue_free(q);
}

static void times_out(void **state)
{
	(void)state;
	struct duct_queue *q = duct_queue_new(1);
	void *got = number(77);
	int64_t start = duct_mono_us();
	assert_int_equal(duct_queue_pop(q, &got, 30), 0);
	assert_true(duct_mono_us() - start >= 30000);
	assert_ptr_equal(got, number(77));
	assert_int_equal(duct_queue_push(q, number(1), 1, 0), 1);
	start = duct_mono_us();
	assert_int_equal(duct_queue_push(q, number(2), 1, 30), 0);
	assert_true(duct_mono_us() - start >= 30000);
	duct_queue_free(q);
}

static void closing_drains(void **state)
{
	(void)state;
	struct duct_queue *q = duct_queue_new(10);
	void *got;
	assert_int_equal(duct_queue_push(q, number(1), 1, 0), 1);
	duct_queue_close(q);
	duct_queue_close(q);
	assert_int_equal(duct_queue_push(q, number(2), 1, -1), -1);
	assert_int_equal(duct_queue_pop(q, &got, -1), 1);
	assert_ptr_equal(got, number(1));
	assert_int_equal(duct_queue_pop(q, &got, -1), -1);
	duct_queue_free(q);
}

struct waiter {
	struct duct_queue *q;
	int result;
	atomic_bool started;
};

static void *wait_for_room(void *arg)
{
	struct waiter *w = arg;
	atomic_store(&w->started, true);
	w->result = duct_queue_push(w->q, number(9), 1, -1);
	return NULL;
}

static void *wait_for_item(void *arg)
{
	struct waiter *w = arg;
	void *got;
	atomic_store(&w->started, true);
	w->result = duct_queue_pop(w->q, &got, -1);
	return NULL;
}

static void closing_wakes_all(void **state)
{
	(void)state;
	for (int full = 0; full < 2; full++) {
		struct duct_queue *q = duct_queue_new(1);
		struct waiter waiters[4] = {{.q = q}, {.q = q}, {.q = q}, {.q = q}};
		pthread_t threads[4];
		if (full)
			assert_int_equal(duct_queue_push(q, number(1), 1, 0), 1);
		for (int i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, full ? wait_for_room : wait_for_item, &waiters[i]), 0);
		for (int i = 0; i < 4; i++)
			while (!atomic_load(&waiters[i].started))
				sched_yield();
		duct_queue_close(q);
		for (int i = 0; i < 4; i++) {
			pthread_join(threads[i], NULL);
			assert_int_equal(waiters[i].result, -1);
		}
		duct_queue_free(q);
	}
}

enum { SENDERS = 4, RECEIVERS = 3, PER_SENDER = 5000 };

struct party {
	struct duct_queue *q;
	int id;
	unsigned char *seen; /* by receivers, one each */
	atomic_size_t *most;
};

static void *send_many(void *arg)
{
	struct party *p = arg;
	for (int i = 0; i < PER_SENDER; i++)
		if (duct_queue_push(p->q, number((uintptr_t)(p->id * PER_SENDER + i + 1)), (size_t)(i % 7) + 1, -1) != 1)
			return number(1);
	return NULL;
}

static void *receive_many(void *arg)
{
	struct party *p = arg;
	int last[SENDERS] = {0};
	void *got;
	int rc;
	while ((rc = duct_queue_pop(p->q, &got, 5)) != -1) {
		if (rc == 0)
			continue;
		int n = (int)(uintptr_t)got - 1;
		/* One receiver sees each sender's items in their order. */
		if (last[n / PER_SENDER] > n % PER_SENDER)
			return number(1);
		last[n / PER_SENDER] = n % PER_SENDER;
		p->seen[n]++;
		size_t weight = duct_queue_weight(p->q);
		if (weight > atomic_load(p->most))
			atomic_store(p->most, weight);
	}
	return NULL;
}

static void many_threads_lose_nothing(void **state)
{
	(void)state;
	struct duct_queue *q = duct_queue_new(20);
	atomic_size_t most = 0;
	pthread_t senders[SENDERS], receivers[RECEIVERS];
	struct party sending[SENDERS], receiving[RECEIVERS];
	void *failed;
	for (int i = 0; i < RECEIVERS; i++) {
		receiving[i] = (struct party){q, i, duct_xcalloc(SENDERS * PER_SENDER, 1), &most};
		assert_int_equal(pthread_create(&receivers[i], NULL, receive_many, &receiving[i]), 0);
	}
	for (int i = 0; i < SENDERS; i++) {
		sending[i] = (struct party){q, i, NULL, NULL};
		assert_int_equal(pthread_create(&senders[i], NULL, send_many, &sending[i]), 0);
	}
	for (int i = 0; i < SENDERS; i++) {
		pthread_join(senders[i], &failed);
		assert_null(failed);
	}
	duct_queue_close(q);
	for (int i = 0; i < RECEIVERS; i++) {
		pthread_join(receivers[i], &failed);
		assert_null(failed);
	}
	for (int n = 0; n < SENDERS * PER_SENDER; n++) {
		int times = 0;
		for (int i = 0; i < RECEIVERS; i++)
			times += receiving[i].seen[n];
		assert_int_equal(times, 1);
	}
	assert_true(atomic_load(&most) <= 20);
	for (int i = 0; i < RECEIVERS; i++)
		free(receiving[i].seen);
	duct_queue_free(q);
	duct_queue_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_order_and_weight),
		cmocka_unit_test(is_bound_by_weight),
		cmocka_unit_test(counts_what_was_taken),
		cmocka_unit_test(times_out),
		cmocka_unit_test(closing_drains),
		cmocka_unit_test(closing_wakes_all),
		cmocka_unit_test(many_threads_lose_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
